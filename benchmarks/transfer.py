"""Does a sub-network learn other data? Two table rows for every network and pair of data sets.

    python -m benchmarks.transfer

Runs `python -m flows transfer` once per cell, so that every run lands in the tracking store like a person's own, and
reads the figures back from it. Two processes share the work by `--models` and `--pairs`; `--set` hands further
parameters to the flow.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import product

from benchmarks.flow_commands import FORMER_DEFAULTS, head_of, named, options_of, row_of, run_of_command
from flows import tracking

EXPERIMENT = "benchmark: transfer"
MODELS = {"lenet5": "LeNet-5", "fc3": "FC-3"}
DATASETS = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10"}
PAIRS = ("mnist:fashion_mnist", "mnist:cifar10", "fashion_mnist:mnist")
SEEDS = 3
EPOCHS = 5
MEAN = "{{accuracy_{0}_mean:.2f}} ({{accuracy_{0}_stderr:.2f}})"
APART = "{{difference_{0}_mean:+.2f}} [{{difference_{0}_low:+.2f}}, {{difference_{0}_high:+.2f}}]"
ON_TARGET = {  # all in %
    "units removed": "{units_removed_share:.1f} %",
    "dense": MEAN.format("dense"),
    "transferred": MEAN.format("transferred"),
    "random": MEAN.format("random"),
    "own": MEAN.format("own"),
    "at initialisation: program": MEAN.format("initial_program"),
    "at initialisation: snip": MEAN.format("initial_snip"),
    "rewound": MEAN.format("rewound"),
    "transferred - dense": APART.format("transferred_minus_dense"),
    "transferred - random": APART.format("transferred_minus_random"),
    "own - transferred": APART.format("own_minus_transferred"),
}
ON_SOURCE = {
    "dense": MEAN.format("source_dense"),
    "lottery ticket": MEAN.format("ticket"),
    "random": MEAN.format("source_random"),
    "rewound": MEAN.format("source_rewound"),
}
TARGET_HEAD, SOURCE_HEAD = "network, mask from -> trained on", "network, mask from and trained on (carried to)"


def main(arguments: Sequence[str]) -> int:
    """Run every chosen cell and print the tables; 1 where a cell failed."""
    chosen = _chosen(arguments)
    store = tracking.open_store(tracking.store_uri(chosen.tracking_uri), EXPERIMENT)
    words = {"epochs": str(chosen.epochs), "seed": chosen.seed, "seeds": str(SEEDS)}
    words |= {**FORMER_DEFAULTS, **dict(chosen.set)}
    print(*head_of(TARGET_HEAD, ON_TARGET), sep="\n", flush=True)
    on_source = []
    for model, pair in product(chosen.models.split(","), chosen.pairs.split(",")):
        source, _, target = pair.partition(":")
        metrics = _run({**words, "model": model, "dataset": source, "target": target}, store)
        if metrics is None:
            return 1
        first, second = DATASETS.get(source, source), DATASETS.get(target, target)
        print(row_of(f"{MODELS.get(model, model)}, {first} -> {second}", ON_TARGET, metrics), flush=True)
        on_source.append(row_of(f"{MODELS.get(model, model)}, {first} ({second})", ON_SOURCE, metrics))
    print("", *head_of(SOURCE_HEAD, ON_SOURCE), *on_source, sep="\n", flush=True)
    return 0


def _chosen(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS), help="networks, by commas")
    parser.add_argument("--pairs", default=",".join(PAIRS), help="from:to, by commas")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="epochs of every arm")
    parser.add_argument("--seed", default="0", help=f"the first of {SEEDS} seeds")
    parser.add_argument("--set", action="append", default=[], type=named, help="name=value, a parameter of the flow")
    parser.add_argument("--tracking_uri", default="", help="MLflow store; empty: as for the flows")
    return parser.parse_args(arguments)


def _run(words: dict[str, str], store: tracking.Store) -> dict[str, float] | None:
    words = words | {"tracking_uri": store.uri, "experiment": EXPERIMENT}
    run_id = run_of_command("transfer", options_of(words))
    if not run_id:
        return None
    return tracking.find_run(store.uri, run_id).metrics()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
