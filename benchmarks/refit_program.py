"""Refit program: the proved optimum over masks of a last hidden layer, against structured OBS and the weight norm.

    DATA_ROOT=<folder with the images> python -m benchmarks.refit_program --cache <folder>

For each network and refit weight: the bound of every mask, the objective of the mask that was found, of the rounded
relaxation's bound, of OBS and of the weight norm (each with its own best changes of the weights), seconds, and the
test accuracy of the mask and of OBS after the full refit by least squares on the same images. OBS and the norm are
starts of the search. Networks are trained once and kept in the cache.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import formulation
import training
from benchmarks.trained import Trained, train_all
from formulation import MaskBudget, MaskSettings
from training import RULES, Dataset, Evidence, Masks

CACHE = Path("~/.cache/critical-neurons")
IMAGES, EPOCHS, SEED = 1000, 10, 0
HEAD = "| layer | kept | r | bound | relaxation | mask | OBS | norm | gap, % | nodes | s | CPU s | test, % | OBS, % |"


@dataclass(frozen=True)
class LastLayer:
    """The last hidden layer of a network, and how many of its units are kept."""

    model: str
    layer: str
    kept: int
    held: tuple[str, ...]


CELLS = (
    LastLayer("fc3", "fc2", 20, ("fc1",)),
    LastLayer("lenet5", "fc2", 17, ("conv1", "conv2", "fc1")),
)


def rule_mask(rule: str, cell: LastLayer, trained: Trained) -> Masks:
    """The units that a rule keeps, as many as the cell says."""
    model, images, labels = trained.load(IMAGES)
    evidence = Evidence(model, torch.from_numpy(images), torch.from_numpy(labels), (cell.layer,), seed=SEED)
    scores = RULES[rule](evidence)[cell.layer]
    mask = np.zeros(len(scores), dtype=bool)
    mask[np.argsort(-scores, kind="stable")[: cell.kept]] = True
    return {cell.layer: mask}


def accuracy(cell: LastLayer, trained: Trained, masks: Masks, dataset: Dataset) -> float:
    """Test accuracy after the full refit, in percent."""
    model, images, _ = trained.load(IMAGES)
    chosen = {cell.layer: np.asarray(masks[cell.layer], dtype=bool)}
    refitted = training.refit(model, chosen, torch.from_numpy(images))
    return 100 * training.evaluate(refitted, dataset.test).accuracy


def row(cell: LastLayer, trained: Trained, dataset: Dataset, settings: MaskSettings) -> str:
    """One line of the table."""
    model, images, labels = trained.load(IMAGES)
    rules = {rule: rule_mask(rule, cell, trained) for rule in ("structured_obs", "l2_norm")}
    started, used = time.perf_counter(), time.process_time()
    solution = formulation.choose_mask(
        model, images, labels, MaskBudget(counts={cell.layer: cell.kept}), settings,
        starts=list(rules.values()), held=cell.held,
    )  # fmt: skip
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    claimed = solution.certificate
    theirs = [
        formulation.objective_of(model, images, labels, mask, settings, held=cell.held) for mask in rules.values()
    ]
    tests = [accuracy(cell, trained, mask, dataset) for mask in (solution.masks, rules["structured_obs"])]
    figures = [claimed.bound, claimed.relaxation, claimed.objective, *theirs]
    return (
        f"| {cell.model} {cell.layer} | {cell.kept} | {settings.refit_weight:g} | "
        + " | ".join(f"{value:.4f}" for value in figures)
        + f" | {100 * claimed.gap:.1f} | {claimed.nodes} | {seconds:.1f} | {cpu:.1f} | "
        + " | ".join(f"{value:.2f}" for value in tests)
        + " |"
    )


def main(words: Sequence[str] | None = None) -> None:
    """Print the table, line by line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder for trained networks")
    parser.add_argument("--dataset", default="fashion_mnist")
    parser.add_argument("--models", default=",".join(cell.model for cell in CELLS), help="by commas")
    parser.add_argument("--weights", default="1,0.1,0.01", help="refit weights r, by commas")
    parser.add_argument("--loss", default="softened", choices=["labels", "softened", "squared"])
    parser.add_argument("--temperature", type=float, default=4.0)
    parser.add_argument("--gap", type=float, default=0.05)
    parser.add_argument("--time_limit", type=float, default=120.0, help="seconds per program")
    chosen = parser.parse_args(words)
    models = chosen.models.split(",")
    root, cache = Path(os.environ["DATA_ROOT"]), chosen.cache.expanduser()
    trained = train_all(models, chosen.dataset, IMAGES, cache=cache, root=root, epochs=EPOCHS, seed=SEED)
    dataset = training.load(chosen.dataset, root=root, seed=SEED)
    print(HEAD, "|".join(["", *["---"] * (HEAD.count("|") - 1), ""]), sep="\n", flush=True)
    for cell in CELLS:
        for weight in map(float, chosen.weights.split(",")):
            settings = MaskSettings(
                loss=chosen.loss, temperature=chosen.temperature, refit_weight=weight, gap=chosen.gap,
                nodes=100_000, time_limit=chosen.time_limit,
            )  # fmt: skip
            if cell.model in models:
                print(row(cell, trained[cell.model], dataset, settings), flush=True)


if __name__ == "__main__":
    main()
