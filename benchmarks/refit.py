"""Refit measured: rules with and without it, uniform counts, on the paper's networks.

    DATA_ROOT=<folder with the images> python -m benchmarks.refit

Every network is trained once and kept in `--cache`. Rules and the refit see training images, the choice of the ridge
some of those; test images only measure.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import training
from benchmarks.trained import train_all
from training import Dataset, Evidence, RefittedLoss, Scores

CACHE = Path("~/.cache/critical-neurons")
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
RULES = ("l2_norm", "squared_taylor", "structured_obs")
TRIES = 200  # swaps worked out, of all layers together
EVIDENCE = 6000  # training images that rules see; structured OBS and the refit see those of the refit


@dataclass(frozen=True, eq=False)
class Cell:
    """A trained network, its data, and the images that survivors are fitted to."""

    model: str
    dense: nn.Module
    data: Dataset
    images: Tensor
    labels: Tensor

    def accuracy(self, network: nn.Module) -> float:
        """Test accuracy in %."""
        return 100 * training.evaluate(network, self.data.test).accuracy


def cells(chosen: argparse.Namespace) -> Iterator[Cell]:
    """Every network on every data set, trained or from the cache."""
    root, cache = Path(chosen.data_root).expanduser(), Path(chosen.cache).expanduser()
    for dataset in chosen.datasets:
        made = train_all(chosen.models, dataset, 1000, cache=cache, root=root, epochs=chosen.epochs, seed=chosen.seed)
        data = training.load(dataset, root=root, seed=chosen.seed)
        order = torch.from_numpy(np.random.default_rng(chosen.seed).permutation(len(data.train)))
        for model, trained in made.items():
            dense, _, _ = trained.load(1)
            yield Cell(model, dense, data, data.train.images[order], data.train.labels[order])


def scores_of(cell: Cell, rule: str, images: int) -> Scores:
    """A rule's scores of the dense network; structured OBS sees as many images as the refit."""
    seen = images if rule == "structured_obs" else EVIDENCE
    layers = tuple(training.consumers(cell.dense, cell.images[:1]))
    [scores] = training.draw_scores(rule, Evidence(cell.dense, cell.images[:seen], cell.labels[:seen], layers))
    return scores


@dataclass(frozen=True)
class Row:
    """Test accuracies in % by level: without refit, with it, and with swaps judged after it; CPU seconds of each."""

    model: str
    data: str
    dense: float
    rule: str
    plain: tuple[float, ...]
    refitted: tuple[float, ...]
    swapped: tuple[float, ...]
    refit_seconds: tuple[float, ...]
    swap_seconds: tuple[float, ...]


def measure(cell: Cell, rule: str, images: int) -> Row:
    """The figures of one rule."""
    scores, read = scores_of(cell, rule, images), cell.images[:images]
    levels = []
    measured: RefittedLoss | None = None
    for level in LEVELS:
        masks = training.by_share(scores, level).masks
        plain = cell.accuracy(training.prune(cell.dense, masks, read[:1]))
        started = time.process_time()
        refitted = training.refit(cell.dense, masks, read)
        between = time.process_time()
        measured = measured or training.measure_readings(cell.dense, tuple(masks), read)
        swapped = training.search_refitted_swaps(measured, masks, tries=TRIES).masks
        seconds = (between - started, time.process_time() - between)
        accuracies = (cell.accuracy(refitted), cell.accuracy(training.refit(cell.dense, swapped, read)))
        levels.append((plain, *accuracies, *seconds))
    return Row(cell.model, cell.data.name, cell.accuracy(cell.dense), rule, *zip(*levels, strict=True))


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown: mean over the levels and the accuracy at the last."""
    names = ("network, data (dense)", "rule", "no refit", "refit", "swaps, refit", "CPU s of a refit", "of the swaps")
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    for row in rows:
        accuracies = [f"{np.mean(each):.2f}; {each[-1]:.2f}" for each in (row.plain, row.refitted, row.swapped)]
        seconds = [f"{np.mean(each):.2f}, at most {max(each):.2f}" for each in (row.refit_seconds, row.swap_seconds)]
        about = (f"{row.model}, {row.data} ({row.dense:.2f})", row.rule)
        lines.append(f"| {' | '.join((*about, *accuracies, *seconds))} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Measure every cell and rule, and print the table."""
    torch.set_num_threads(1)
    chosen = _parse(arguments)
    rows: list[Row] = []
    for cell in cells(chosen):
        for rule in chosen.rules:
            rows.append(measure(cell, rule, chosen.images))
            print(json.dumps(asdict(rows[-1])), file=sys.stderr, flush=True)
    print(table(rows))
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.refit", description=__doc__)
    parser.add_argument("--models", nargs="+", default=["lenet5", "fc3"])
    parser.add_argument("--datasets", nargs="+", default=["mnist", "fashion_mnist"])
    parser.add_argument("--rules", nargs="+", default=list(RULES))
    parser.add_argument("--images", type=int, default=1000, help="training images that survivors are fitted to")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of training of the dense networks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", default=str(CACHE))
    parser.add_argument("--data_root", default=os.environ.get("DATA_ROOT") or str(CACHE / "data"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
