"""The main job on real images: LeNet-5 and FC-3 on MNIST and Fashion-MNIST, one table row each.

    python -m benchmarks.main_job

Runs `python -m flows main` once per cell, so that every run lands in the tracking store like a person's own, and reads
the figures back from it. How much goes is chosen on validation images; the other columns show test accuracy.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from itertools import product

from benchmarks.flow_commands import head_of, options_of, row_of, run_of_command
from flows import tracking

EXPERIMENT = "benchmark: main job"
MODELS = {"lenet5": "LeNet-5", "fc3": "FC-3"}
DATASETS = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
SETTINGS = {"epochs": "5", "cache": "none"}  # all else as the flow has it; seconds are those of the work
COLUMNS = {  # of metrics in %, except for seconds
    "validation: trained, pruned": "{tolerance_dense_validation_accuracy:.2f}, {tolerance_validation_accuracy:.2f}",
    "trained": "{accuracy_trained:.2f}",
    "pruned": "**{accuracy_pruned:.2f}**",
    "random, mean of 5 (standard deviation)": "{accuracy_random:.2f} ({accuracy_random_stdev:.2f})",
    "highest scores removed": "{accuracy_critical:.2f}",
    "retrained": "{accuracy_retrained:.2f}",
    "units removed": "{units_removed_share:.2f} %",
    "parameters removed (as published)": (
        "{parameters_removed_share:.2f} % ({published_parameters_removed_share:.2f} %)"
    ),
    "multiply-adds removed": "{multiply_adds_removed_share:.2f} %",
    "seconds: train / score / prune / retrain": (
        "{seconds_train:.0f} / {seconds_score:.0f} / {seconds_prune:.0f} / {seconds_retrain:.0f}"
    ),
}


def main(arguments: Sequence[str]) -> int:
    """Run every cell and print the table; 1 where a cell failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.main_job", description=__doc__)
    parser.add_argument("--seed", default="0", help="seed of split, initial weights, draws and batches")
    parser.add_argument("--tracking_uri", default="", help="MLflow store; empty: as for the flows")
    chosen = parser.parse_args(arguments)
    store = tracking.open_store(tracking.store_uri(chosen.tracking_uri), EXPERIMENT)
    print(*head(), sep="\n", flush=True)
    for model, dataset in product(MODELS, DATASETS):
        words = {"model": model, "dataset": dataset, "seed": chosen.seed, **SETTINGS}
        metrics = _run(words, store)
        if metrics is None:
            return 1
        print(row(model, dataset, metrics), flush=True)
    return 0


def head() -> tuple[str, str]:
    """The table's first two lines."""
    return head_of("network, data", COLUMNS)


def row(model: str, dataset: str, metrics: Mapping[str, float]) -> str:
    """The table's line for the metrics of one main run."""
    return row_of(f"{MODELS[model]}, {DATASETS[dataset]}", COLUMNS, metrics)


def _run(words: dict[str, str], store: tracking.Store) -> dict[str, float] | None:
    words = words | {"tracking_uri": store.uri, "experiment": EXPERIMENT}
    run_id = run_of_command("main", options_of(words))
    if not run_id:
        return None
    run = tracking.find_run(store.uri, run_id)
    return tracking.find_stage(run, "prune").metrics() | run.metrics()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
