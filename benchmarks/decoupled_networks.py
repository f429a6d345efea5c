"""Networks with a head on each block, trained for `benchmarks.decoupled` and kept in a folder with scoring images."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

import training
from training import Block, BlockEpoch, Dataset, Epoch, FitSettings, SamplingError, ScoringSet

PER_CLASS = 10  # scoring images kept of each class
WEIGHTS, HEADS, IMAGES = "weights.pt", "heads.pt", "images.npz"


@dataclass(frozen=True)
class Recipe:
    """What is trained, on which images and for how long; `limit` 0: on all of them."""

    model: str
    dataset: str
    epochs: int
    head_epochs: int
    limit: int = 0
    augment: str = "none"
    rate_schedule: str = "constant"

    @property
    def title(self) -> str:
        """The network and its data in a table."""
        return f"{self.model}, {Path(self.dataset.removeprefix('folder:')).name}"

    def folder(self, cache: Path, seed: int) -> Path:
        """Where what it makes is kept."""
        words = [str(value) for value in asdict(self).values()] + [f"seed-{seed}"]
        return cache / "blocks" / re.sub(r"[^\w@.-]+", "_", "-".join(words))


@dataclass(frozen=True)
class Prepared:
    """The folder of a trained network, the heads of its blocks, and scoring images in rounds of one per class."""

    model: str
    folder: str

    def load(self, images: int) -> tuple[nn.Module, Tensor, Tensor]:
        """The network in evaluation mode, and the first so many scoring images [n, C, H, W] and labels [n]."""
        with np.load(Path(self.folder) / IMAGES) as stored:
            pixels, labels = torch.from_numpy(stored["images"]), torch.from_numpy(stored["labels"])
        channels, height, width = pixels.shape[1:]
        weights = Path(self.folder) / WEIGHTS
        classes = int(labels.max()) + 1
        network = training.build(
            self.model, input_shape=(channels, height, width), classes=classes, seed=0, checkpoint=weights
        )
        return network.eval(), pixels[:images], labels[:images]

    def heads(self, blocks: tuple[Block, ...], classes: int) -> dict[str, nn.Module]:
        """The heads of its blocks, by their names."""
        return training.load_heads(blocks, classes, Path(self.folder) / HEADS)

    @property
    def correct_only(self) -> bool:
        """Whether the network classifies all scoring images correctly."""
        with np.load(Path(self.folder) / IMAGES) as stored:
            return bool(stored["correct_only"])


@lru_cache(maxsize=1)
def dataset_of(name: str, root: Path, seed: int, limit: int) -> Dataset:
    """A data set of the benchmark; the last one asked for is kept."""
    return training.load(name, root=root, seed=seed, limit=limit or None)


def prepare(recipe: Recipe, *, cache: Path, root: Path, seed: int) -> Prepared:
    """A recipe's network, heads and scoring images; what the cache holds is not made again.

    The scoring images are validation images that the network classifies correctly, and any where those are too few.
    """
    folder = recipe.folder(cache, seed)
    if not (folder / WEIGHTS).exists():
        folder.mkdir(parents=True, exist_ok=True)
        _make(recipe, folder, dataset_of(recipe.dataset, root, seed, recipe.limit), seed)
    return Prepared(recipe.model, str(folder))


def _make(recipe: Recipe, folder: Path, data: Dataset, seed: int) -> None:
    network = training.build(recipe.model, input_shape=data.input_shape, classes=len(data.classes), seed=seed)
    settings = FitSettings(epochs=recipe.epochs, seed=seed, augment=recipe.augment, rate_schedule=recipe.rate_schedule)
    fitted = training.fit(network, data.train, data.validation, settings, callbacks=[_report(recipe)]).model
    blocks = training.split(fitted, data.train.images[:1])
    classes = len(data.classes)
    heads = training.fit_heads(
        fitted,
        {block.name: training.make_head(block, classes, seed=seed) for block in blocks[:-1]},
        data.train,
        data.validation,
        FitSettings(epochs=recipe.head_epochs, seed=seed),
        callbacks=[_report(recipe)],
    ).heads
    with TemporaryDirectory(dir=folder) as unfinished:  # a file that is there is whole
        place = Path(unfinished)
        training.save_heads(heads, place / HEADS)
        drawn, correct_only = _drawn(fitted, data, seed)
        images, labels = drawn.images.numpy(), drawn.labels.numpy()
        np.savez(place / IMAGES, images=images, labels=labels, correct_only=correct_only)
        torch.save(fitted.state_dict(), place / WEIGHTS)
        for name in (HEADS, IMAGES, WEIGHTS):
            (place / name).replace(folder / name)


def _drawn(network: nn.Module, data: Dataset, seed: int) -> tuple[ScoringSet, bool]:
    """A scoring set, and whether the network classifies all of it correctly."""

    def draw(correct_only: bool) -> ScoringSet:
        return training.draw(
            network,
            data.validation,
            images_per_class=PER_CLASS,
            classes=data.classes,
            seed=seed,
            correct_only=correct_only,
        )

    try:
        return draw(True), True
    except SamplingError:
        return draw(False), False


def _report(recipe: Recipe) -> Callable[[Epoch | BlockEpoch], None]:
    def report(epoch: Epoch | BlockEpoch) -> None:
        accuracy = epoch.validation_accuracy
        shown = accuracy if isinstance(accuracy, float) else next(iter(accuracy.values()))
        what = "train" if isinstance(epoch, Epoch) else "heads of"
        words = f"{what} {recipe.title}: epoch {epoch.index}, {100 * shown:.2f} %"
        print(f"{words} ({epoch.seconds:.0f} s)", file=sys.stderr, flush=True)

    return report
