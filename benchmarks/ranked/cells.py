"""Cells of the ranking benchmark: a network, a data set and a training seed; their networks."""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import training
from benchmarks.trained import train_all
from tracing import NORMS
from training import Dataset, Split

# How many units go of each layer: the same share, by the program's ranking over all layers, or by its ranking within
# what the level leaves of the multiply-adds.
COUNTINGS = ("uniform", "own", "multiply_adds")
# Of the validation and test images of deep networks every so manieth judges and measures.
EVERY: Mapping[str, int] = {"vgg16@0.25": 4, "resnet20": 4}
EVIDENCE = 6000  # labelled training images that gradient rules see
VERSION = 4  # of the way a cell is measured: raise it with every change that may move a figure


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, which of its layers lose units, and what is too dear to measure of it.

    Attributes:
        layers: pattern of the layers' names; those of residual sums are left whole.
        steps: whether the mask program goes its steps.
    """

    epochs: int = 10
    limit: int | None = None
    rate_schedule: str = "constant"
    layers: str = "*"
    steps: bool = True
    crossings: int = 12


RECIPES: Mapping[str, Recipe] = {
    "fc3": Recipe(),
    "fc4": Recipe(),
    "lenet5": Recipe(),
    "vgg16@0.25": Recipe(epochs=5, limit=25_000, rate_schedule="cosine", steps=False, crossings=4),
    "resnet20": Recipe(epochs=4, limit=25_000, rate_schedule="cosine", layers="*.conv1", steps=False, crossings=4),
}


@dataclass(frozen=True)
class Cell:
    """What to measure: accuracies at `levels`, shares removed of units or of multiply-adds.

    Attributes:
        images: training images that survivors are fitted to, and that the program sees.
        source: folder of CIFAR-10 as images per class; empty: torchvision's.
    """

    model: str
    dataset: str
    seed: int
    levels: tuple[float, ...]
    images: int
    cache: str
    root: str
    source: str = ""

    @property
    def name(self) -> str:
        """Words for it, in lines and in names of files."""
        return f"{self.model}-{self.dataset}-seed-{self.seed}"

    def digest(self) -> str:
        """What is asked for and how it is measured, as 12 hexadecimal digits; where files lie does not count."""
        asked = {name: value for name, value in asdict(self).items() if name not in ("cache", "root", "source")}
        how: list[object] = [asdict(RECIPES[self.model]), EVIDENCE, VERSION]
        how += [EVERY[self.model]] if self.model in EVERY else []
        return hashlib.sha256(json.dumps([asked, how], sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, eq=False)
class Bench:
    """A cell's dense network, its data, its layers, and a seeded draw of its training images."""

    cell: Cell
    dense: nn.Module
    data: Dataset
    layers: tuple[str, ...]
    images: Tensor
    labels: Tensor

    @property
    def fitted(self) -> Tensor:
        """Images that survivors are fitted to, and structured OBS and the program see."""
        return self.images[: self.cell.images]

    @property
    def widths(self) -> dict[str, int]:
        """Units by layer."""
        links = training.consumers(self.dense, self.images[:1], self.layers)
        return {layer: link.units for layer, link in links.items()}

    @property
    def normalised(self) -> bool:
        """Whether there are BatchNorms, whose statistics can be measured anew."""
        return any(isinstance(part, NORMS) for part in self.dense.modules())


def open_bench(cell: Cell) -> Bench:
    """The trained network, from the cache or made, and its data."""
    recipe = RECIPES[cell.model]
    source = f"folder:{cell.source}" if cell.source and cell.dataset == "cifar10" else cell.dataset
    made = train_all(
        [cell.model], cell.dataset, 1000, cache=Path(cell.cache), root=Path(cell.root), epochs=recipe.epochs,
        seed=cell.seed, source=source, limit=recipe.limit, rate_schedule=recipe.rate_schedule,
    )  # fmt: skip
    dense, _, _ = made[cell.model].load(1)
    data = _thinned(training.load(source, root=cell.root, seed=cell.seed, limit=recipe.limit), EVERY.get(cell.model, 1))
    order = torch.from_numpy(np.random.default_rng(cell.seed).permutation(len(data.train))[:EVIDENCE])
    images, labels = data.train.images[order], data.train.labels[order]
    layers = tuple(fnmatch.filter(training.consumers(dense, images[:1]), recipe.layers))
    return Bench(cell, dense, data, layers, images, labels)


def _thinned(data: Dataset, every: int) -> Dataset:
    validation, test = (Split(each.images[::every], each.labels[::every]) for each in (data.validation, data.test))
    return replace(data, validation=validation, test=test)
