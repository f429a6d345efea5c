"""Scoring block by block: what it costs, what auxiliary heads ask for, how far it agrees with joint scoring.

    DATA_ROOT=<folder with the images> python -m benchmarks.decoupled [--parts size,heads]

Each part is a table:

- size: VGG-16 at full width and ResNet-56, ten images, all blocks one after the other in one process: CPU seconds,
  memory and certificates. How well the networks are trained does not matter here, and they are trained for two epochs
  on 5,000 images; the joint network's lowering stands below for comparison.
- heads: units of the heads held at 1 against scored. Test images measure, validation images choose.
- agreement: by block against jointly, on the same images.
  In both, units are removed by importance and nothing is trained on; in brackets BatchNorm statistics are measured
  anew.
- cifar: a deep network trained, scored by block, pruned and retrained by `python -m flows main`, and its mask carried
  to MNIST and Fashion-MNIST by `python -m flows transfer`; settings are those of a GPU's hours, --set names others (not
  the transfer's own images, epochs and seeds).
- dask: the same programs on one and on two Dask workers, each started by the commands of docs/dask.md, in flows as a
  person starts them; the best possible schedule is that of the times measured with one worker.

Networks, heads and scoring images are trained first (seeded, kept in --cache). Every cell runs in a process of its own
on one thread.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import training
from benchmarks import decoupled_tables as tables
from benchmarks.decoupled_cell import BLOCKS, LOWERING, WHOLE, Cell, run
from benchmarks.decoupled_dask import FlowFailed, measure_dask
from benchmarks.decoupled_flows import deep_network
from benchmarks.decoupled_networks import Prepared, Recipe, dataset_of, prepare
from benchmarks.flow_commands import named
from training import Split

CACHE = Path.home() / ".cache" / "critical-neurons"
GATES = ("pattern", "linear")
SIZE_IMAGES, IMAGES = 10, 50
SIZES = {"vgg16": True, "resnet56": False}  # whether memory has a target
WIDE = ("vgg16@0.25", "vgg7")
SMALL = ("lenet5", "vgg7@0.5")
DASK_MODEL, DASK_GATE = "vgg16@0.25", "pattern"
SHARES = {"heads": (10, 30), "agreement": (10, 30, 50)}  # percent of every layer's units removed
RECALIBRATED = 2000  # training images on which BatchNorm statistics are measured anew


@dataclass(frozen=True)
class Place:
    """Where everything lies, which colour images are meant, and on how many images accuracies are measured (0: all)."""

    dataset: str
    root: Path
    cache: Path
    seed: int
    measured: int
    more: Mapping[str, str]

    def a_little(self, model: str) -> Recipe:
        """A network whose scores do not matter."""
        return Recipe(model, self.dataset, epochs=2, head_epochs=1, limit=5000)

    def well(self, model: str) -> Recipe:
        """A network that is worth pruning."""
        return Recipe(model, self.dataset, 8, 2, 10_000, "flip_crop", "cosine")

    def prepared(self, recipe: Recipe) -> Prepared:
        """The files of a recipe, made where they are not there."""
        return prepare(recipe, cache=self.cache, root=self.root, seed=self.seed)

    def split(self, recipe: Recipe, name: str) -> Split:
        """The validation or test images that accuracies are measured on, evenly drawn from all classes."""
        data = dataset_of(recipe.dataset, self.root, self.seed, recipe.limit)
        found = data.test if name == "test" else data.validation
        return thinned(found, max(1, len(found) // self.measured) if self.measured else 1)


def thinned(split: Split, step: int) -> Split:
    """Every `step`-th image of each class, in whatever order the data set has them."""
    of_each = [torch.nonzero(split.labels == label).flatten()[::step] for label in range(int(split.labels.max()) + 1)]
    chosen = torch.cat(of_each).sort().values
    return Split(split.images[chosen], split.labels[chosen])


def size(place: Place) -> Iterator[str]:
    """What scoring every block of a large network costs."""
    notes = []

    def rows() -> Iterator[str]:
        for model, limits_memory in SIZES.items():
            recipe = place.a_little(model)
            prepared = place.prepared(recipe)
            kind = "classified correctly" if prepared.correct_only else "of any kind"
            title = f"{recipe.title}, {SIZE_IMAGES} images {kind}"
            for gate in GATES:
                found = run(Cell(prepared, recipe.title, SIZE_IMAGES, gate))
                yield tables.size_row(title, gate, found, limits_memory=limits_memory)
            found = run(Cell(prepared, recipe.title, SIZE_IMAGES, "pattern", LOWERING))
            said = f"{found['cpu']:.1f} CPU seconds, peak {tables.memory(found)} MB" if found else "failed"
            notes.append(f"Lowering {recipe.title} as a whole, without scoring it: {said}.")

    yield from tables.printed(tables.SIZE, rows())
    yield from ("", *notes)


def heads(place: Place) -> Iterator[str]:
    """The units of heads held at 1 against scored."""

    def rows() -> Iterator[str]:
        for model, gate in product(WIDE, GATES):
            recipe = place.well(model)
            prepared = place.prepared(recipe)
            title = f"{recipe.title}, {IMAGES}, `{gate}`"
            cells = {units: Cell(prepared, recipe.title, IMAGES, gate, BLOCKS, units) for units in ("held", "scored")}
            found = {units: run(cell) for units, cell in cells.items()}
            yield from _head_rows(place, recipe, prepared, title, found)

    yield from tables.printed(tables.HEADS, rows())


def _head_rows(
    place: Place, recipe: Recipe, prepared: Prepared, title: str, found: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    if not all(found.values()):
        yield tables.line([title, "failed", *[""] * (len(tables.HEADS) - 2)])
        return
    agreeing = [
        tables.in_short(tables.correlations(*(each[name] for each in found.values())))
        for name in ("scores", "importance")
    ]
    for units, each in found.items():
        accuracies = [
            _accuracies(place, recipe, prepared, each["importance"], SHARES["heads"], split)
            for split in ("validation", "test")
        ]
        shown = agreeing if units == "scored" else ["", ""]
        columns = tables.columns(each["programs"])
        yield tables.line([title, units, f"{each['cpu']:.1f}", columns, *shown, *accuracies])


def agreement(place: Place) -> Iterator[str]:
    """By block against jointly, on the same images."""

    def rows() -> Iterator[str]:
        small, wide = SMALL
        recipes = [Recipe(small, name, epochs=3, head_epochs=2) for name in ("mnist", "fashion_mnist")]
        for recipe, gate in product([*recipes, place.well(wide)], GATES):
            prepared = place.prepared(recipe)
            found = {how: run(Cell(prepared, recipe.title, IMAGES, gate, how)) for how in (WHOLE, BLOCKS)}
            yield from _agreement_rows(place, recipe, prepared, f"{recipe.title}, {IMAGES}, `{gate}`", found)

    yield from tables.printed(tables.AGREEMENT, rows())


def _agreement_rows(
    place: Place, recipe: Recipe, prepared: Prepared, title: str, found: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    if not all(found.values()):
        yield tables.line([title, "failed", *[""] * (len(tables.AGREEMENT) - 2)])
        return
    agreeing = [
        tables.by_layer(tables.correlations(*(each[name] for each in found.values())))
        for name in ("scores", "importance")
    ]
    for how, each in found.items():
        accuracies = _accuracies(place, recipe, prepared, each["importance"], SHARES["agreement"], "test")
        shown = agreeing if how == BLOCKS else ["", ""]
        yield tables.line([title, how, f"{each['cpu']:.1f}", tables.memory(each), *shown, accuracies])


def dask(place: Place) -> Iterator[str]:
    """The same programs on one and on two Dask workers."""
    recipe = place.well(DASK_MODEL)
    title, prepared = f"{recipe.title}, `{DASK_GATE}`", place.prepared(recipe)

    def rows() -> Iterator[str]:
        try:
            one, two = measure_dask(recipe, prepared, DASK_GATE, root=place.root, seed=place.seed)
        except FlowFailed as error:
            print(error, file=sys.stderr, flush=True)
            yield tables.line([title, "failed", *[""] * (len(tables.DASK) - 2)])
            return
        yield tables.dask_row(title, one, two, 2)

    yield from tables.printed(tables.DASK, rows())


def _accuracies(
    place: Place, recipe: Recipe, prepared: Prepared, importance: Any, shares: Sequence[int], name: str
) -> str:
    """Accuracy with those percentages of every layer removed, the least important first; nothing is trained on.

    In brackets with BatchNorm statistics measured anew on training images, where the network has any.
    """
    network, images, _ = prepared.load(1)
    data = dataset_of(recipe.dataset, place.root, place.seed, recipe.limit)
    split = place.split(recipe, name)
    values = {layer: np.asarray(each) for layer, each in importance.items()}
    shown = [f"{100 * training.evaluate(network, split).accuracy:.2f} trained"]
    for share in shares:
        pruned = training.prune(network, training.by_share(values, share / 100).masks, images)
        accuracy = f"{100 * training.evaluate(pruned, split).accuracy:.2f}"
        if any(isinstance(module, nn.BatchNorm2d) for module in pruned.modules()):
            measured = training.recalibrate(pruned, data.train.images[:RECALIBRATED])
            accuracy += f" ({100 * training.evaluate(measured, split).accuracy:.2f})"
        shown.append(f"{accuracy} without {share} %")
    return ", ".join(shown)


def cifar(place: Place) -> Iterator[str]:
    """A deep network through the whole flow, and its mask on other data."""
    return deep_network(place.dataset, place.root, place.more)


PARTS: Mapping[str, Callable[[Place], Iterator[str]]] = {
    "size": size,
    "heads": heads,
    "agreement": agreement,
    "dask": dask,
    "cifar": cifar,
}


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.decoupled", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--parts", default=",".join(PARTS), help=f"which of {', '.join(PARTS)}")
    parser.add_argument("--dataset", default="cifar10", help="the colour images: cifar10, or folder:<path>")
    parser.add_argument("--cache", default=str(CACHE / "benchmarks"), help="folder of the trained networks")
    parser.add_argument("--data_root", default="", help="folder of the data sets; empty: $DATA_ROOT, else in ~/.cache")
    parser.add_argument("--seed", type=int, default=0, help="seed of split, initial weights, batches and draws")
    parser.add_argument("--measured", type=int, default=0, help="images that accuracies are measured on; 0: all")
    parser.add_argument("--set", action="append", default=[], type=named, help="cifar: name=value, of the flows")
    chosen = parser.parse_args(arguments)
    chosen.parts = [part for part in chosen.parts.split(",") if part]
    if not chosen.parts or not set(chosen.parts) <= set(PARTS):
        parser.error(f"--parts {','.join(chosen.parts)}: use some of {', '.join(PARTS)}")
    return chosen


def main(arguments: Sequence[str]) -> int:
    """Print the tables of the parts asked for; 1 where a cell failed."""
    chosen = _parse(arguments)
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # servers end with this process
    root = Path(chosen.data_root or os.environ.get("DATA_ROOT") or CACHE / "data").expanduser()
    place = Place(chosen.dataset, root, Path(chosen.cache).expanduser(), chosen.seed, chosen.measured, dict(chosen.set))
    failed = False
    for part in (each for each in PARTS if each in chosen.parts):
        print(f"\n{part}\n", flush=True)
        for text in PARTS[part](place):
            failed |= "| failed |" in text
            print(text, flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
