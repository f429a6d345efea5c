"""Does a sub-network learn other data? Two table rows for every network and pair of data sets.

    python -m benchmarks.transfer

Runs `python -m flows transfer` once per cell, so that every run lands in the tracking store like a person's own, and
reads the figures back from it. Two processes share the work by `--models` and `--pairs`; `--set` hands further
parameters to the flow.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from itertools import product

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
    words = {"epochs": str(chosen.epochs), "seed": chosen.seed, "seeds": str(SEEDS), **dict(chosen.set)}
    print(*head(TARGET_HEAD, ON_TARGET), sep="\n", flush=True)
    on_source = []
    for model, pair in product(chosen.models.split(","), chosen.pairs.split(",")):
        source, _, target = pair.partition(":")
        metrics = _run({**words, "model": model, "dataset": source, "target": target}, store)
        if metrics is None:
            return 1
        first, second = DATASETS.get(source, source), DATASETS.get(target, target)
        print(row(f"{MODELS.get(model, model)}, {first} -> {second}", ON_TARGET, metrics), flush=True)
        on_source.append(row(f"{MODELS.get(model, model)}, {first} ({second})", ON_SOURCE, metrics))
    print("", *head(SOURCE_HEAD, ON_SOURCE), *on_source, sep="\n", flush=True)
    return 0


def head(first: str, columns: Mapping[str, str]) -> tuple[str, str]:
    """A table's first two lines."""
    return f"| {first} | {' | '.join(columns)} |", f"|{'---|' * (len(columns) + 1)}"


def row(name: str, columns: Mapping[str, str], metrics: Mapping[str, float]) -> str:
    """A table's line for the metrics of one transfer, parts of 1 shown in %."""
    shown = {metric: 100 * value for metric, value in metrics.items()}
    return f"| {name} | {' | '.join(form.format_map(shown) for form in columns.values())} |"


def _chosen(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transfer", description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS), help="networks, by commas")
    parser.add_argument("--pairs", default=",".join(PAIRS), help="from:to, by commas")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="epochs of every arm")
    parser.add_argument("--seed", default="0", help=f"the first of {SEEDS} seeds")
    parser.add_argument("--set", action="append", default=[], type=_named, help="name=value, a parameter of the flow")
    parser.add_argument("--tracking_uri", default="", help="MLflow store; empty: as for the flows")
    return parser.parse_args(arguments)


def _named(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{word!r} has no value: write name=value")
    return name, value


def _run(words: dict[str, str], store: tracking.Store) -> dict[str, float] | None:
    words = words | {"tracking_uri": store.uri, "experiment": EXPERIMENT}
    options = [part for name, value in words.items() for part in (f"--{name}", value)]
    command = [sys.executable, "-m", "flows", "transfer", *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    if done.returncode or " run " not in last:
        print(f"failed: {' '.join(command)}", file=sys.stderr)
        return None
    run_id = last.split(" run ", 1)[1].split()[0]
    return tracking.logged_metrics(tracking.find_run(store.uri, run_id))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
