"""Several good sub-networks: do masks that differ in a tenth of all units learn as well, each trained anew?

    DATA_ROOT=<folder with the images> python -m benchmarks.several_masks

For each network and data set: five masks of the mask program that keep half of every layer and differ from each other
in at least a tenth of all units, each with its bound; five masks of the same widths drawn at random; and the whole
network. Every mask is trained anew from the network's first weights, with the same order of the data. Prints, mask by
mask, the program's objective, bound and gap, the test accuracy after the refit and after training anew, and how many
units it shares with the best one. The masks of a cell, and what each mask led to, are kept in the cache: the same
command goes on where another ended.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

import formulation
import training
from benchmarks.kept import kept
from benchmarks.trained import CLASSES, Trained, train_all
from formulation import MaskBudget, MaskSettings, MaskSolution
from training import Dataset, FitSettings, Masks

CACHE = Path("~/.cache/critical-neurons/benchmarks")
MODELS, DATASETS = ("fc3", "lenet5"), ("mnist", "fashion_mnist")
NUMBER, KEPT, APART = 5, 0.5, 0.1
IMAGES, EPOCHS, SEED = 300, 10, 0
SETTINGS = MaskSettings(refit_weight=0.3, gap=0.05, nodes=100_000)
HEAD = (
    "| network, data | mask | objective | bound | gap, % | status | CPU s | shared with the best, % | "
    "refitted, test % | trained anew, test % |"
)


def found_masks(trained: Trained, settings: MaskSettings) -> list[dict[str, Any]]:
    """The masks of the program, best first, as plain data: kept units by layer, what is proved, and CPU seconds."""
    model, images, labels = trained.load(IMAGES)
    widths = formulation.outline(model, torch.from_numpy(images[:1])).units
    budget = MaskBudget(counts={layer: max(1, round(KEPT * units)) for layer, units in widths.items()})
    begun: list[float] = []

    def told(number: int, _bound: float, _objective: float) -> None:
        if number == 1:
            begun.append(time.process_time())

    apart = max(1, round(APART * sum(widths.values())))
    found = formulation.choose_distinct_masks(
        model, images, labels, budget, settings, number=NUMBER, distance=apart, progress=told
    )
    seconds = [after - before for before, after in pairwise([*begun, time.process_time()])]
    return [_plain(solution, spent) for solution, spent in zip(found, seconds, strict=True)]


def _plain(solution: MaskSolution, spent: float) -> dict[str, Any]:
    proved = {name: getattr(solution.certificate, name) for name in ("objective", "bound", "gap", "status")}
    masks = {layer: np.flatnonzero(mask).tolist() for layer, mask in solution.masks.items()}
    return {
        "masks": masks,
        "units": {layer: len(mask) for layer, mask in solution.masks.items()},
        "cpu": spent,
        **{name: value if isinstance(value, str) else float(value) for name, value in proved.items()},
    }


def masks_of(found: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Kept units (True) by layer, of a mask kept as plain data."""
    return {layer: np.isin(np.arange(found["units"][layer]), own) for layer, own in found["masks"].items()}


def random_masks(widths: Mapping[str, int], staying: Mapping[str, int]) -> list[Masks]:
    """Masks of given widths, drawn without replacement."""
    draw = np.random.default_rng(SEED)
    masks: list[Masks] = []
    for _ in range(NUMBER):
        mask = {layer: np.zeros(units, dtype=bool) for layer, units in widths.items()}
        for layer, units in widths.items():
            mask[layer][draw.permutation(units)[: staying[layer]]] = True
        masks.append(mask)
    return masks


def accuracies(trained: Trained, masks: Masks, dataset: Dataset) -> tuple[float, float]:
    """Test accuracies in %: with the survivors refitted, and trained anew from the first weights."""
    model, images, _ = trained.load(IMAGES)
    refitted = training.refit(model, masks, torch.from_numpy(images))
    start = training.build(trained.model, input_shape=dataset.input_shape, classes=CLASSES, seed=SEED)
    settings = FitSettings(epochs=EPOCHS, seed=SEED)
    anew = training.fit(start, dataset.train, dataset.validation, settings, masks=masks).model
    first, second = (100 * training.evaluate(each, dataset.test).accuracy for each in (refitted, anew))
    return first, second


def measure(trained: Trained, dataset: Dataset, settings: MaskSettings, folder: Path) -> dict[str, Any]:
    """Everything that a cell's rows say; each part is kept in the folder once it is found."""
    solved = kept(folder / "masks.json", lambda: found_masks(trained, settings))
    chosen = [masks_of(each) for each in solved]
    drawn = random_masks(solved[0]["units"], {layer: len(own) for layer, own in solved[0]["masks"].items()})

    def reached(name: str, masks: Masks) -> tuple[float, float]:
        refitted, anew = kept(folder / f"{name}.json", lambda: accuracies(trained, masks, dataset))
        print(f"{trained.model}, {dataset.name}: {name}, {anew:.2f} % anew", file=sys.stderr, flush=True)
        return refitted, anew

    rows = []
    for number, (proved, masks) in enumerate(zip(solved, chosen, strict=True), start=1):
        refitted, anew = reached(f"mask-{number}", masks)
        rows.append({**proved, "shared": shared(chosen[0], masks), "refitted": refitted, "anew": anew})
    controls = [reached(f"random-{number}", masks) for number, masks in enumerate(drawn, start=1)]
    dense = training.evaluate(trained.load(1)[0], dataset.test).accuracy
    between = [shared(one, other) for one, other in combinations(chosen, 2)]
    return {"rows": rows, "controls": controls, "dense": 100 * dense, "shared": between}


def shared(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """How many of the units that one mask keeps the other keeps too, in %."""
    both = sum(int(np.sum(one[layer] & other[layer])) for layer in one)
    return 100 * both / sum(int(np.sum(one[layer])) for layer in one)


def table(title: str, found: Mapping[str, Any]) -> list[str]:
    """A cell's lines: each mask, the random ones, the whole network."""
    lines = [
        f"| {title} | {number} | {row['objective']:.4f} | {row['bound']:.4f} | {100 * row['gap']:.1f} | "
        f"{row['status']} | {row['cpu']:.0f} | {row['shared']:.0f} | {row['refitted']:.2f} | {row['anew']:.2f} |"
        for number, row in enumerate(found["rows"], start=1)
    ]
    ours, pairs = [(row["refitted"], row["anew"]) for row in found["rows"]], f"{np.mean(found['shared']):.0f} (pairs)"
    for name, cells, alike in (("mean of these", ours, pairs), ("random, mean", found["controls"], "")):
        values = np.array(cells)
        means, errors = values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(len(values))
        tests = " | ".join(f"{mean:.2f} ({error:.2f})" for mean, error in zip(means, errors, strict=True))
        lines.append(f"| {title} | {name} | | | | | | {alike} | {tests} |")
    return [*lines, f"| {title} | whole network | | | | | | | | {found['dense']:.2f} |"]


def main(words: Sequence[str] | None = None) -> None:
    """Print the table, cell by cell."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.several_masks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of trained networks and findings")
    parser.add_argument("--models", default=",".join(MODELS), help="by commas")
    parser.add_argument("--datasets", default=",".join(DATASETS), help="by commas")
    parser.add_argument("--time_limit", type=float, default=60.0, help="seconds per mask")
    chosen = parser.parse_args(words)
    torch.set_num_threads(1)
    root, cache = Path(os.environ["DATA_ROOT"]), chosen.cache.expanduser()
    settings = MaskSettings(**{**SETTINGS.__dict__, "time_limit": chosen.time_limit})
    print(HEAD, "|".join(["", *["---"] * (HEAD.count("|") - 1), ""]), sep="\n", flush=True)
    for name in chosen.datasets.split(","):
        dataset = training.load(name, root=root, seed=SEED)
        models = chosen.models.split(",")
        trained = train_all(models, name, 1000, cache=cache, root=root, epochs=EPOCHS, seed=SEED)
        for model in models:
            folder = cache / "several-masks" / f"{model}-{name}-{chosen.time_limit:g}"
            found = measure(trained[model], dataset, settings, folder)
            print(*table(f"{model}, {name}", found), sep="\n", flush=True)


if __name__ == "__main__":
    main()
