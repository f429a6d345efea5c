"""The main job on real images: LeNet-5 and FC-3 on MNIST and Fashion-MNIST, one table row each.

    python -m benchmarks.main_job

Runs `python -m flows main` once per cell, so that every run lands in the tracking store like a person's own, and reads
the figures back from it. Settings were chosen on validation images; the table shows test accuracy.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from itertools import product

from flows import tracking

EXPERIMENT = "benchmark: main job"
MODELS = ("lenet5", "fc3")
DATASETS = ("mnist", "fashion_mnist")
SETTINGS = {"epochs": "5"}  # all else as the flow has it
COLUMNS = {
    "trained": "accuracy_trained",
    "pruned": "accuracy_pruned",
    "random, mean of 5": "accuracy_random",
    "its standard deviation": "accuracy_random_stdev",
    "critical": "accuracy_critical",
    "retrained": "accuracy_retrained",
    "units removed": "units_removed_share",
    "parameters removed": "parameters_removed_share",
    "as published": "published_parameters_removed_share",
    "multiply-adds removed": "multiply_adds_removed_share",
}
STAGES = ("train", "score", "prune", "retrain")


def main(arguments: Sequence[str]) -> int:
    """Run every cell and print the table; 1 where a cell failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.main_job", description=__doc__)
    parser.add_argument("--seed", default="0", help="seed of split, initial weights, draws and batches")
    parser.add_argument("--tracking_uri", default="", help="MLflow store; empty: as for the flows")
    chosen = parser.parse_args(arguments)
    store = tracking.open_store(tracking.store_uri(chosen.tracking_uri), EXPERIMENT)
    print(f"| network, data | {' | '.join(COLUMNS)} | seconds {' / '.join(STAGES)} |")
    print(f"|{'---|' * (len(COLUMNS) + 2)}", flush=True)
    for model, dataset in product(MODELS, DATASETS):
        words = {"model": model, "dataset": dataset, "seed": chosen.seed, **SETTINGS}
        metrics = _run(words, store)
        if metrics is None:
            return 1
        shares = " | ".join(f"{100 * metrics[name]:.2f}" for name in COLUMNS.values())
        seconds = " / ".join(f"{metrics[f'seconds_{stage}']:.0f}" for stage in STAGES)
        print(f"| {model}, {dataset} | {shares} | {seconds} |", flush=True)
    return 0


def _run(words: dict[str, str], store: tracking.Store) -> dict[str, float] | None:
    words = words | {"tracking_uri": store.uri, "experiment": EXPERIMENT}
    options = [part for name, value in words.items() for part in (f"--{name}", value)]
    command = [sys.executable, "-m", "flows", "main", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    if done.returncode or " run " not in last:
        print(f"failed: {' '.join(command)}", file=sys.stderr)
        return None
    run_id = last.split(" run ", 1)[1].split()[0]
    return tracking.logged_metrics(tracking.find_run(store.uri, run_id))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
