"""Networks of a cell after refit and one epoch of training: prints one line of JSON, accuracies by level and rule.

    python -m benchmarks.ranked.epochs '{"model": "fc3", ...}' < kept.json

Reads {"kept": {level: {rule: {layer: units that are kept}}}}, the masks that the cell found.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch

from benchmarks.ranked.cells import Bench, Cell, open_bench
from benchmarks.ranked.measuring import CHOICE
from benchmarks.ranked.trials import Trials
from training import Masks

SHOWN = ("l2_norm", "squared_taylor", "structured_obs", "random", CHOICE)


def main() -> None:
    """Train what is asked for."""
    torch.set_num_threads(1)
    given = json.loads(sys.argv[1])
    bench = open_bench(Cell(**given | {"levels": tuple(given["levels"])}))
    kept = json.loads(sys.stdin.read())["kept"]
    trials = Trials(bench)
    found = {
        level: {rule: trials.trained_on(_masks(bench, by_rule[rule])) for rule in SHOWN}
        for level, by_rule in kept.items()
    }
    print(json.dumps(found))


def _masks(bench: Bench, kept: dict[str, list[int]]) -> Masks:
    return {layer: np.isin(np.arange(units), kept[layer]) for layer, units in bench.widths.items()}


if __name__ == "__main__":
    main()
