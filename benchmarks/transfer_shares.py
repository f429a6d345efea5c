"""Masks carried to other data over shares removed: from which start on, and against what, a mask is lucky.

    DATA_ROOT=<folder with the images> python -m benchmarks.transfer_shares

For each seed a network is trained on the source data set; masks of it at each share of all units removed are carried to
the target, where the masked network is trained from its initial weights, from an early checkpoint of the source, and
from the source's trained weights, all of it or the output layer alone. Arms: the program's mask on the source; masks by
the weight norm and by structured OBS on the source, the program's on the target, and random ones, all of the same
widths; and a random mask of as many units, the same share of every layer. The order of the data is the seed's in every
arm, so that differences are paired. What a seed, a share and a start found is kept in the cache: the same command goes
on with the next. Images of the target are resized, and coloured or made grey, as those of the source. Test images
measure, and choose nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

import formulation
import training
from benchmarks.joint_masks import half_width, interval, said
from benchmarks.kept import kept
from benchmarks.ranked.rules import SETTINGS
from training import Dataset, Evidence, FitSettings, Masks, Scores

CACHE = Path("~/.cache/critical-neurons/benchmarks")
SHARES, SEEDS = (80, 50, 90, 70, 20), 5
PROGRAM_IMAGES, EARLY = 300, 1
DENSE, TRANSFERRED, RANDOM = "dense", "transferred", "random"
OUTPUT = "output"  # the layer that alone is trained where the rest stays
STARTS = {
    "initial": "initial weights",
    "early": "early checkpoint",
    "trained": "trained weights",
    OUTPUT: "trained weights, output layer alone",
}


@dataclass(frozen=True, eq=False)
class Pair:
    """A seed's networks and data.

    Attributes:
        starts: the networks that the arms begin with, by the start's key.
        trained, own: the dense networks of the source and of the target.
    """

    source: Dataset
    target: Dataset
    starts: Mapping[str, nn.Module]
    trained: nn.Module
    own: nn.Module
    settings: FitSettings


def open_pair(model: str, names: tuple[str, str], seed: int, images: int, epochs: int, cifar10: str = "") -> Pair:
    """Both data sets, cut to so many training images, and their dense networks; `cifar10` is a folder of its images."""
    root, (first, second) = Path(os.environ["DATA_ROOT"]), names
    source = training.load(_where(first, cifar10), root=root, seed=seed, limit=images)
    channels, side, _ = source.input_shape
    target = training.load(
        _where(second, cifar10), root=root, seed=seed, limit=images, image_size=side, channels=channels
    )
    if source.input_shape != target.input_shape:
        raise SystemExit(f"{first} has images of {source.input_shape}: carry masks between square images")
    if len(source.classes) != len(target.classes):
        raise SystemExit(
            f"{first} has {len(source.classes)} classes, {second} {len(target.classes)}: carry masks between data sets "
            "of as many classes"
        )
    settings = FitSettings(epochs=epochs, seed=seed)
    initial = training.build(model, input_shape=source.input_shape, classes=len(source.classes), seed=seed)
    fitted = training.fit(initial, source.train, source.validation, settings, early=EARLY)
    assert fitted.early is not None
    own = training.fit(initial, target.train, target.validation, settings).model
    begun = (initial, fitted.early, fitted.model, fitted.model)
    return Pair(source, target, dict(zip(STARTS, begun, strict=True)), fitted.model, own, settings)


def _where(name: str, cifar10: str) -> str:
    return f"folder:{cifar10}" if name == "cifar10" and cifar10 else name


def program_scores(network: nn.Module, data: Dataset, seed: int) -> Scores:
    """The program's importance, which compares across layers."""
    drawn = training.draw(
        network,
        data.validation,
        images_per_class=PROGRAM_IMAGES // len(data.classes),
        classes=data.classes,
        seed=seed,
    )
    return formulation.importance(formulation.score(network, drawn.images, drawn.labels, SETTINGS))


def arms_of(pair: Pair, share: int, carried: Scores, own: Scores) -> dict[str, Masks | None]:
    """The masks of every arm at a share of all units; None: the whole network."""
    first = training.by_quantile(carried, share / 100).masks
    removed, seed = training.counts(first), pair.settings.seed
    evidence = Evidence(
        pair.trained, pair.source.train.images[:1000], pair.source.train.labels[:1000], tuple(first), seed
    )

    def by_rule(rule: str) -> Masks:
        return training.by_counts(training.draw_scores(rule, evidence, 1)[0], removed)

    drawn = training.draw_scores("random", evidence, 2)[1]
    return {
        DENSE: None,
        TRANSFERRED: first,
        RANDOM: by_rule("random"),
        "weight norm": by_rule("l2_norm"),
        "structured OBS": by_rule("structured_obs"),
        "own": training.by_counts(own, removed),
        "random, uniform widths": uniform(drawn, sum(removed.values())),
    }


def measure(pair: Pair, start: str, arms: Mapping[str, Masks | None]) -> dict[str, float]:
    """Test accuracy in % by arm, each trained on the target from one start."""
    network = pair.starts[start]
    for layer, part in network.named_children():
        for parameter in part.parameters():
            parameter.requires_grad_(start != OUTPUT or layer == OUTPUT)
    return {arm: accuracy(pair, network, masks) for arm, masks in arms.items()}


@dataclass(frozen=True)
class Bench:
    """What is measured for a seed: networks, scores and masks are made when they are first asked for."""

    model: str
    names: tuple[str, str]
    seed: int
    images: int
    epochs: int
    cifar10: str

    @cached_property
    def pair(self) -> Pair:
        """The networks and data of the seed."""
        return open_pair(self.model, self.names, self.seed, self.images, self.epochs, self.cifar10)

    @cached_property
    def scores(self) -> tuple[Scores, Scores]:
        """The program's on the source and on the target."""
        pair = self.pair
        on_source = program_scores(pair.trained, pair.source, self.seed)
        return on_source, program_scores(pair.own, pair.target, self.seed)

    @cached_property
    def arms(self) -> dict[int, dict[str, Masks | None]]:
        """Masks by share, filled as shares are asked for."""
        return {}

    def measured(self, share: int, start: str) -> dict[str, float]:
        """Test accuracy in % by arm, and a line on what it took."""
        begun = time.process_time()
        if share not in self.arms:
            self.arms[share] = arms_of(self.pair, share, *self.scores)
        found = measure(self.pair, start, self.arms[share])
        spent, reached = time.process_time() - begun, f"{found[TRANSFERRED]:.2f} %"
        print(
            f"seed {self.seed}, {share} %, {STARTS[start]}: {reached}, {spent:.0f} CPU s", file=sys.stderr, flush=True
        )
        return found


def uniform(scores: Scores, removed: int) -> Masks:
    """A mask of so many units less, the same share of every layer but for rounding."""
    total = sum(map(len, scores.values()))
    ends = np.floor(np.cumsum([0, *map(len, scores.values())]) * removed / total + 0.5).astype(int)
    return training.by_counts(scores, dict(zip(scores, np.diff(ends).tolist(), strict=True)))


def accuracy(pair: Pair, network: nn.Module, masks: Masks | None) -> float:
    """Test accuracy in % after training on the target."""
    made = training.fit(network, pair.target.train, pair.target.validation, pair.settings, masks=masks).model
    return 100 * training.evaluate(made, pair.target.test).accuracy


def differences(cells: Sequence[Mapping[str, Mapping[str, float]]], start: str, arm: str) -> np.ndarray:
    """The transferred mask's accuracy less an arm's, [seeds]."""
    return np.array([cell[start][TRANSFERRED] - cell[start][arm] for cell in cells])


def table(share: int, cells: Sequence[Mapping[str, Mapping[str, float]]]) -> list[str]:
    """A share's lines: accuracies, then the transferred mask's paired differences."""
    lines = []
    for start in cells[0]:
        figures = [said(np.array([cell[start][arm] for cell in cells])) for arm in cells[0][start]]
        apart = [interval(differences(cells, start, arm)) for arm in cells[0][start] if arm != TRANSFERRED]
        lines.append(f"| {share} | {STARTS[start]} | {len(cells)} | {' | '.join([*figures, *apart])} |")
    return lines


def picture(found: Mapping[int, Sequence[Mapping[str, Mapping[str, float]]]]) -> Figure:
    """A panel per start: the transferred mask's accuracy less each arm's, with 95 % intervals."""
    starts, shares = list(next(iter(found.values()))[0]), sorted(found)
    rows, columns = -(-len(starts) // 2), min(2, len(starts))
    figure = Figure(figsize=(5.2 * columns, 3.2 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()[: len(starts)]
    for panel, start in zip(panels, starts, strict=True):
        arms = [arm for arm in found[shares[0]][0][start] if arm not in (TRANSFERRED, DENSE)]
        for place, arm in enumerate(arms):
            each = [differences(found[share], start, arm) for share in shares]
            halves = [half_width(values) for values in each]
            moved = np.array(shares) + 0.6 * (place - len(arms) / 2)
            panel.errorbar(moved, [values.mean() for values in each], halves, marker="o", markersize=3, label=arm)
        panel.axhline(0.0, color="black", linewidth=0.8)
        panel.set_title(STARTS[start], loc="left", fontsize=10)
        panel.set_xticks(shares)
        panel.grid(alpha=0.25)
    for panel in panels[-columns:]:
        panel.set_xlabel("units removed in %")
    figure.supylabel("transferred mask's test accuracy less that of the arm, points")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8)
    return figure


def main(words: Sequence[str] | None = None) -> None:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.transfer_shares",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of what was found")
    parser.add_argument("--model", default="fc3", help="a network whose output layer is `output`")
    parser.add_argument("--pair", default="mnist:fashion_mnist", help="from:to")
    parser.add_argument("--shares", default=",".join(map(str, SHARES)), help="of the units removed, in %%, by commas")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many, from 0")
    parser.add_argument("--images", type=int, default=10_000, help="training images of each data set")
    parser.add_argument("--epochs", type=int, default=3, help="of every training")
    parser.add_argument("--starts", default=",".join(STARTS), help=f"of {', '.join(STARTS)}, by commas")
    parser.add_argument("--cifar10", default="", help="folder of CIFAR-10 as images per class; empty: torchvision's")
    parser.add_argument("--picture", type=Path, help="file of the picture")
    chosen = parser.parse_args(words)
    torch.set_num_threads(1)
    names = tuple(chosen.pair.split(":"))
    if len(names) != 2:
        parser.error(f"--pair {chosen.pair}: two data sets are needed, from:to")
    shares, starts = [int(each) for each in chosen.shares.split(",")], chosen.starts.split(",")
    if wrong := [start for start in starts if start not in STARTS]:
        parser.error(f"--starts {wrong[0]}: choose of {', '.join(STARTS)}")
    found: dict[int, list[dict[str, dict[str, float]]]] = {share: [] for share in shares}
    folder = chosen.cache.expanduser() / "transfer-shares"
    for seed in range(chosen.seeds):
        bench = Bench(chosen.model, names, seed, chosen.images, chosen.epochs, chosen.cifar10)
        for share in shares:
            where = f"-{sha256(chosen.cifar10.encode()).hexdigest()[:12]}" if chosen.cifar10 else ""
            cell = f"{chosen.model}-{'-'.join(names)}{where}-{chosen.images}-{chosen.epochs}-{share}"
            found[share].append(
                {
                    start: kept(folder / f"{cell}-{start}-seed-{seed}.json", partial(bench.measured, share, start))
                    for start in starts
                }
            )
    arms = list(found[shares[0]][0][starts[0]])
    apart = [f"{TRANSFERRED} - {arm}" for arm in arms if arm != TRANSFERRED]
    head = f"| removed, % | begins with | seeds | {' | '.join([*arms, *apart])} |"
    print(head, "|".join(["", *["---"] * (head.count("|") - 1), ""]), sep="\n")
    for share in sorted(shares):
        print(*table(share, found[share]), sep="\n")
    if chosen.picture is not None:
        picture(found).savefig(chosen.picture, dpi=100)


if __name__ == "__main__":
    main()
