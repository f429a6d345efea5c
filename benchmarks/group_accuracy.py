"""Groups' accuracy benchmark: a trained residual network without units of groups, and without inner maps' units alone.

    DATA_ROOT=<folder with the images> python -m benchmarks.group_accuracy [--remaining 0.7,0.5]

At equal multiply-adds, by one ranking: of *groups* units of every scored layer may go, of *inner maps* only those of
layers that nothing ties to others. *usual call* is `cn.prune` without a ranking given: it scores on training images,
which its seconds include, and tries both, and what units cost the answers. The trained network, the ranking and every
row are kept in a folder, so that a run goes on where another ended. Validation images choose, test images, which
nothing else sees, are reported. One training seed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import critical_neurons
import training
from benchmarks.decoupled import thinned
from benchmarks.kept import kept
from benchmarks.trained import train_all
from critical_neurons import ScoreResult
from tracing import trace
from tracing.units import unit_groups
from training import Dataset

CACHE = Path("~/.cache/critical-neurons/benchmarks")
REMAINING = (0.7, 0.5)
SCORING_SECONDS = 3600.0
SEED, SCORED, EVERY = 0, 100, 4  # every so manieth validation and test image judges and measures
EPOCHS, LIMIT = 4, 25_000
COLUMNS = ("units that go", "test without refit, %", "test, %", "CPU s")
HEAD = ("network (test, %)", "multiply-adds that stay, %", "may lose units", *COLUMNS)


def tied_layers(network: nn.Module, example: Tensor) -> tuple[str, ...]:
    """The layers whose units sums or depthwise convolutions tie to others', by the names of their scores.

    Args:
        network: in evaluation mode.
        example: [1, C, H, W].
    """
    groups = unit_groups(trace(network, example).fitting()).groups
    return tuple(name for name, group in groups.items() if group.coupled)


def ranked(network: nn.Module, data: Dataset, folder: Path) -> ScoreResult:
    """The scores of a network, from a folder where they are there already.

    Args:
        network: that is scored.
        data: whose validation images it is scored on.
        folder: where they are kept.
    """
    if not folder.is_dir():
        critical_neurons.score(network, data.validation, images=SCORED, time_limit=SCORING_SECONDS).save(folder)
    return critical_neurons.load_scores(folder, network)


def lines(
    name: str, network: nn.Module, data: Dataset, scores: ScoreResult, remaining: Sequence[float], folder: Path
) -> Iterator[str]:
    """The rows of a network, one for each part of the multiply-adds and each kind of units.

    Args:
        name: of the network.
        network: trained, in evaluation mode.
        data: training images to fit survivors to, validation images to choose by, test images to measure on.
        scores: of the network's units.
        remaining: parts of the multiply-adds that may stay.
        folder: where rows are kept.
    """
    tied = tied_layers(network, data.train.images[:1])
    dense = 100 * training.evaluate(network, data.test).accuracy
    ways: Mapping[str, Mapping[str, Any]] = {
        "groups": {"scores": scores},
        "inner maps": {"scores": scores, "leave_alone": tied},
        "usual call": {"images": SCORED, "time_limit": SCORING_SECONDS},
    }
    for part in remaining:
        for kind, asked in ways.items():
            row = kept(folder / f"{kind}-{part:g}.json", partial(measure, network, data, part, asked))
            yield f"| {' | '.join([f'{name} ({dense:.2f})', row[0], kind, *row[1:]])} |"


def measure(network: nn.Module, data: Dataset, part: float, asked: Mapping[str, Any]) -> list[str]:
    """A row's figures: multiply-adds that stay, units that go, accuracies without and with refit, CPU seconds.

    Args:
        network: trained, in evaluation mode.
        data: as for `lines`.
        part: of the multiply-adds that may stay.
        asked: of `critical_neurons.prune`, beside that.
    """
    started = time.process_time()
    made = critical_neurons.prune(network, data.train, validation=data.validation, multiply_adds=part, **asked)
    plain = training.prune(network, made.masks, data.train.images[:1])
    tests = [training.evaluate(each, data.test).accuracy for each in (plain, made.network)]
    print(*made.notes, sep="\n", file=sys.stderr, flush=True)
    stay = made.removal.multiply_adds_after / made.removal.multiply_adds_before
    accuracies = [f"{100 * each:.2f}" for each in tests]
    went = made.removal.units_removed
    return [f"{100 * stay:.1f}", str(went), *accuracies, f"{time.process_time() - started:.0f}"]


def main(words: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.group_accuracy", description=__doc__)
    parser.add_argument("--model", default="resnet20", help="resnet20 or resnet56")
    parser.add_argument("--remaining", default=",".join(map(str, REMAINING)), help="parts of the multiply-adds")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of training, where the network is not kept yet")
    parser.add_argument("--limit", type=int, default=LIMIT, help="training images")
    parser.add_argument("--cache", default=str(CACHE), help="folder of trained networks")
    parser.add_argument("--cifar10", default="", help="folder of CIFAR-10 as images per class; empty: torchvision's")
    given = parser.parse_args(words)
    torch.set_num_threads(1)
    source = f"folder:{given.cifar10}" if given.cifar10 else "cifar10"
    cache, root = Path(given.cache).expanduser(), Path(os.environ["DATA_ROOT"])
    made = train_all(
        [given.model], "cifar10", 10, cache=cache, root=root, epochs=given.epochs, seed=SEED, source=source,
        limit=given.limit, rate_schedule="cosine",
    )[given.model]  # fmt: skip
    network, _, _ = made.load(1)
    data = training.load(source, root=root, seed=SEED, limit=given.limit)
    data = replace(data, validation=thinned(data.validation, EVERY), test=thinned(data.test, EVERY))
    scores = ranked(network, data, made.weights.with_name(f"scores-{SCORED}"))
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
    remaining = [float(part) for part in given.remaining.split(",")]
    for line in lines(given.model, network, data, scores, remaining, made.weights.with_name("group-accuracy")):
        print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
