"""Robustness benchmark: agreement of scores between scoring sets, by settings.

    DATA_ROOT=<folder with the images> python -m benchmarks.robustness

LeNet-5 and FC-3 are trained on MNIST and Fashion-MNIST (seeded, kept in --cache) and scored by 25 disjoint balanced
sets of validation images, with the default program and with the settings under which scores agree. Each network and
variant becomes a nested run with its metrics; the table printed is the description of the run on top. The settings were
chosen on draws with --sets_seed 1, 2 and 3; the default is another one.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import formulation
import training
from benchmarks.trained import train_all
from flows import tracking
from flows.reporting.rank_correlation import agreement_by_layer
from flows.tracking import Run
from formulation import ScoreSettings
from training import Dataset, Scores, ScoringSet

EXPERIMENT = "benchmark: robustness"
CACHE = Path.home() / ".cache" / "critical-neurons"
MODELS = {"lenet5": "LeNet-5", "fc3": "FC-3"}
DATASETS = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
KEPT_IMAGES = 1000  # what the other benchmarks keep beside these networks; not read here
PATTERN = ScoreSettings(gate="pattern", radius=0.0, loss_weight=5.0, threads=1)
AGREEING = replace(PATTERN, gate="linear", loss_weight=0.1)  # the defaults
# As many images of each class as 25 disjoint sets leave: Fashion-MNIST's LeNet-5 has 331 shirts that it gets right.
LARGEST = {"mnist": 20, "fashion_mnist": 13}
VARIANTS = {"pattern": PATTERN, "agreeing": AGREEING}
FEW_IMAGES = 5
SHARES = (30, 50)  # percent of every layer's units removed
PRUNED_SETS = 5
HEAD = (
    "network, data (validation accuracy)", "settings", "scores", "importance", "CPU seconds a set",
    *(f"{share} % of each layer removed" for share in SHARES),
)  # fmt: skip


def measure(
    network: nn.Module, dataset: Dataset, sets: Sequence[ScoringSet], settings: ScoreSettings
) -> dict[str, float]:
    """The metrics of one network under one variant.

    - `scores_mean.<layer>`, `scores_min.<layer>`, the same of importance: Spearman's correlation over pairs of sets,
      and `scores_pairs.<layer>` how many pairs there are, those without a set that gives all units the same;
    - `cpu_seconds`: of one set, its check included;
    - `accuracy.<percent>`: on validation images, with that percentage of each layer's units removed, the least
      important first; mean over the first sets.
    """
    began = time.process_time()
    solutions = [formulation.score(network, each.images, each.labels, settings) for each in sets]
    metrics = {"cpu_seconds": (time.process_time() - began) / len(sets)}
    importance = [formulation.importance(each) for each in solutions]
    metrics |= _agreement("scores", [each.scores for each in solutions]) | _agreement("importance", importance)
    return metrics | {
        f"accuracy.{share}": fmean(_accuracy(network, dataset, each, share / 100) for each in importance[:PRUNED_SETS])
        for share in SHARES
    }


def images_per_class(variant: str, dataset: str) -> int:
    """How many images of each class a scoring set has."""
    return FEW_IMAGES if variant == "pattern" else LARGEST[dataset]


def row(title: str, variant: str, metrics: Mapping[str, float]) -> str:
    """The table's line for one network under one variant, accuracies in %."""
    accuracies = [f"{100 * metrics[f'accuracy.{share}']:.2f}" for share in SHARES]
    cells = [title, variant, _shown("scores", metrics), _shown("importance", metrics), f"{metrics['cpu_seconds']:.2f}"]
    return f"| {' | '.join(cells + accuracies)} |"


def main(arguments: Sequence[str]) -> int:
    """Measure every network with every variant, log, and print the table."""
    chosen = _parse(arguments)
    torch.set_num_threads(1)
    root = Path(chosen.data_root or os.environ.get("DATA_ROOT") or CACHE / "data").expanduser()
    store = tracking.open_store(tracking.store_uri(chosen.tracking_uri), EXPERIMENT)
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    print(*lines, sep="\n", flush=True)
    with tracking.open_flow_run(store, "robustness of scores", {"flow": "robustness"}) as top:
        tracking.log_params(top, {"sets": chosen.sets, "sets_seed": chosen.sets_seed, "epochs": chosen.epochs})
        for name, model in product(chosen.datasets.split(","), chosen.models.split(",")):
            dataset = training.load(name, root=root, seed=chosen.seed)
            cache = Path(chosen.cache).expanduser()
            made = train_all([model], name, KEPT_IMAGES, cache=cache, root=root, epochs=chosen.epochs, seed=chosen.seed)
            network = made[model].load(0)[0]
            accuracy = training.evaluate(network, dataset.validation).accuracy
            title = f"{MODELS.get(model, model)}, {DATASETS.get(name, name)} ({100 * accuracy:.2f})"
            for variant in chosen.variants.split(","):
                images = images_per_class(variant, name)
                sets = training.draw_sets(
                    network, dataset.validation, sets=chosen.sets, images_per_class=images,
                    classes=dataset.classes, seed=chosen.sets_seed,
                )  # fmt: skip
                metrics = measure(network, dataset, sets, VARIANTS[variant])
                _log(top, f"{model}, {name}, {variant}", VARIANTS[variant], images, metrics)
                lines.append(row(title, f"{variant}, {images} of each class", metrics))
                print(lines[-1], flush=True)
        tracking.telling_at_once(top).add_note("\n".join(lines))
    return 0


def _log(top: Run, title: str, settings: ScoreSettings, images: int, metrics: Mapping[str, float]) -> None:
    with tracking.open_run(top, title, {"stage": "robustness"}) as opened:
        tracking.log_params(opened, settings.to_dict() | {"images_per_class": images})
        tracking.telling_at_once(opened).add_metrics(metrics)


def _agreement(name: str, values: Sequence[Scores]) -> dict[str, float]:
    stacked: dict[str, NDArray[np.float64]] = {layer: np.stack([each[layer] for each in values]) for layer in values[0]}
    metrics: dict[str, float] = {}
    for layer, each in agreement_by_layer(stacked).items():
        if each.mean is not None and each.smallest is not None:
            metrics |= {f"{name}_mean.{layer}": each.mean, f"{name}_min.{layer}": each.smallest}
            metrics[f"{name}_pairs.{layer}"] = each.pairs  # fewer than all where sets order no units
    return metrics


def _accuracy(network: nn.Module, dataset: Dataset, importance: Scores, share: float) -> float:
    masks = training.by_share(importance, share).masks
    pruned = training.prune(network, masks, dataset.validation.images[:1])
    return training.evaluate(pruned, dataset.validation).accuracy


def _shown(name: str, metrics: Mapping[str, float]) -> str:
    """Mean (least) layer by layer; a layer that no two sets order is left out."""
    start = f"{name}_mean."
    layers = [metric.removeprefix(start) for metric in metrics if metric.startswith(start)]
    return ", ".join(f"{layer} {metrics[start + layer]:.2f} ({metrics[f'{name}_min.{layer}']:.2f})" for layer in layers)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.robustness", description=__doc__)
    parser.add_argument("--models", default=",".join(MODELS), help="networks, by commas")
    parser.add_argument("--datasets", default=",".join(DATASETS), help="data sets, by commas")
    parser.add_argument("--variants", default=",".join(VARIANTS), help="settings, by commas")
    parser.add_argument("--sets", type=int, default=25, help="disjoint scoring sets")
    parser.add_argument("--sets_seed", type=int, default=7, help="seed of their draw")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of training")
    parser.add_argument("--seed", type=int, default=0, help="seed of split, initial weights and batches")
    parser.add_argument("--cache", default=str(CACHE / "benchmarks"), help="folder of the trained networks")
    parser.add_argument("--data_root", default="", help="folder of the data sets; empty: $DATA_ROOT, else in ~/.cache")
    parser.add_argument("--tracking_uri", default="", help="MLflow store; empty: as for the flows")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
