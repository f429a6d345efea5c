"""Support images: the few of a scoring set that, with weights, are enough for its scores to be the best ones.

    DATA_ROOT=<folder with the images> python -m benchmarks.support_images

For each network and data set the program is solved on 1,000 validation images with the usual settings; then, for each
tolerance, its support is found. Prints how many images that is, in all and by class, the gap proved of the program on
these alone, and what comes of solving that again: a weight becomes a number of copies, 2,000 in all, and the scores
found are judged on all images. Beside it stand as many random images, equally many of each class. What a cell found is
kept in the cache.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.stats import spearmanr

import formulation
from benchmarks.trained import CLASSES, Trained, train_all
from formulation import ScoreSettings, Solution, Support
from formulation.relaxation import forward, image_losses, sparsity, with_jacobians
from formulation.verify import stored_reduction

CACHE = Path("~/.cache/critical-neurons/benchmarks")
MODELS, DATASETS, TOLERANCES = ("fc3", "lenet5"), ("mnist", "fashion_mnist"), (1e-2, 1e-3)
IMAGES, EPOCHS, SEED, DRAWS, COPIES = 1000, 10, 0, 3, 2000
SETTINGS = ScoreSettings(gap=1e-4)
SHOWN = 8  # images of a class in the picture
HEAD = (
    "| network, data | scores between 0 and 1 | tolerance | support images | of a class: least, median, most | "
    "proved gap | CPU s | solved again: gap on all images | rank correlation of scores | "
    "as many random images: gap on all images | rank correlation |"
)


def measure(trained: Trained, tolerances: Sequence[float]) -> dict[str, Any]:
    """Everything that a cell's rows and its picture say."""
    model, images, labels = trained.load(IMAGES)
    begun = time.process_time()
    whole = formulation.score(model, images, labels, SETTINGS)
    spent, rows = time.process_time() - begun, []
    judge = Judge(trained, whole)
    for tolerance in tolerances:
        begun = time.process_time()
        found = formulation.find_support(model, images, labels, whole, tolerance=tolerance)
        seconds, per_class, size = time.process_time() - begun, found.per_class(), len(found.images)
        rows.append(
            {
                "tolerance": tolerance,
                "images": found.images.tolist(),
                "weights": found.weights.tolist(),
                "per_class": [per_class.get(label, 0) for label in range(CLASSES)],
                "gap": found.gap,
                "cpu": seconds,
                "again": judge.again(found),
                "random": [judge.drawn(size, seed) for seed in range(DRAWS)],
            }
        )
        print(f"{trained.model}: {size} images at {tolerance:g}, {seconds:.0f} CPU s", file=sys.stderr, flush=True)
    proved = {name: getattr(whole.certificate, name) for name in ("objective", "bound", "gap")}
    between = sum(int(((values > 1e-6) & (values < 1 - 1e-6)).sum()) for values in whole.scores.values())
    return {"whole": proved | {"cpu": spent, "between": between}, "rows": rows}


class Judge:
    """What scores of a few images are worth on all: their gap, and their rank correlation with those of all."""

    def __init__(self, trained: Trained, whole: Solution) -> None:
        self.model, self.images, self.labels = trained.load(IMAGES)
        self.whole = whole
        self.reduction = with_jacobians(stored_reduction(self.model, self.images, self.labels, whole))

    def again(self, found: Support) -> tuple[float, float]:
        """Of the program solved again on a support."""
        copies = np.round(found.weights * COPIES / found.weights.sum()).astype(int)
        weight = SETTINGS.loss_weight * float(found.weights.sum())
        return self._of(np.repeat(found.images, copies), replace(SETTINGS, loss_weight=weight))

    def drawn(self, size: int, seed: int) -> tuple[float, float]:
        """Of so many random images, in rounds of one of each class."""
        order = np.random.default_rng(seed).permutation(IMAGES // CLASSES)
        rounds = np.concatenate([CLASSES * each + np.arange(CLASSES) for each in order])
        return self._of(rounds[:size], SETTINGS)

    def _of(self, part: np.ndarray, settings: ScoreSettings) -> tuple[float, float]:
        scores = formulation.score(self.model, self.images[part], self.labels[part], settings).scores
        stacked, network = self.reduction.network.stack(scores), self.reduction.network
        losses = [
            image_losses(forward(self.reduction, batch, stacked).logits, batch.labels, SETTINGS.loss)
            for batch in self.reduction.batches
        ]
        kept = sparsity(network, stacked, SETTINGS.layer_weight)
        objective = SETTINGS.objective(float(np.concatenate(losses).mean()), kept)
        gap = (objective - self.whole.certificate.bound) / max(1.0, abs(objective))
        alike = [spearmanr(scores[layer], self.whole.scores[layer]).statistic for layer in scores]
        return gap, float(np.min(alike))


def table(title: str, found: Mapping[str, Any]) -> list[str]:
    """A cell's lines."""
    lines = []
    for row in found["rows"]:
        counts = f"{min(row['per_class'])}, {np.median(row['per_class']):g}, {max(row['per_class'])}"
        drawn = np.array(row["random"])
        gap, alike = row["again"]
        lines.append(
            f"| {title} | {found['whole']['between']} | {row['tolerance']:g} | {len(row['images'])} | {counts} | "
            f"{row['gap']:.2g} | {row['cpu']:.0f} | {gap:.2g} | {alike:.2f} | {drawn[:, 0].mean():.2g} "
            f"({drawn[:, 0].min():.2g} to {drawn[:, 0].max():.2g}) | {drawn[:, 1].mean():.2f} |"
        )
    return lines


def picture(trained: Trained, row: Mapping[str, Any]) -> Figure:
    """The images of the largest weights, a row per class; above each by how many images of the set it stands for.

    Args:
        trained: the network and its images.
        row: of a cell.
    """
    _, images, labels = trained.load(IMAGES)
    chosen, weights = np.array(row["images"]), np.array(row["weights"])
    figure = Figure(figsize=(0.75 * SHOWN, 0.95 * CLASSES), layout="constrained")
    for label, line in enumerate(figure.subplots(CLASSES, SHOWN)):
        own = np.flatnonzero(labels[chosen] == label)
        own = own[np.argsort(-weights[own], kind="stable")][:SHOWN]
        for panel in line:
            panel.set_axis_off()
        for panel, place in zip(line, own, strict=False):
            panel.imshow(images[chosen[place], 0], cmap="gray_r")
            panel.set_title(f"{IMAGES * weights[place]:.1f}", fontsize=8)
    return figure


def main(words: Sequence[str] | None = None) -> None:
    """Print the table, cell by cell."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.support_images",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of trained networks and findings")
    parser.add_argument("--models", default=",".join(MODELS), help="by commas")
    parser.add_argument("--datasets", default=",".join(DATASETS), help="by commas")
    parser.add_argument("--picture", type=Path, help="file of the picture: the first cell at the last tolerance")
    chosen = parser.parse_args(words)
    torch.set_num_threads(1)
    root, cache = Path(os.environ["DATA_ROOT"]), chosen.cache.expanduser()
    print(HEAD, "|".join(["", *["---"] * (HEAD.count("|") - 1), ""]), sep="\n", flush=True)
    drawing = chosen.picture
    for name in chosen.datasets.split(","):
        models = chosen.models.split(",")
        trained = train_all(models, name, IMAGES, cache=cache, root=root, epochs=EPOCHS, seed=SEED)
        for model in models:
            stored = cache / "support-images" / f"{model}-{name}.json"
            if not stored.exists():
                found = measure(trained[model], TOLERANCES)
                stored.parent.mkdir(parents=True, exist_ok=True)
                partial = stored.with_suffix(".part")
                partial.write_text(json.dumps(found))
                partial.replace(stored)
            cell = json.loads(stored.read_text())
            print(*table(f"{model}, {name}", cell), sep="\n", flush=True)
            if drawing is not None:
                picture(trained[model], cell["rows"][-1]).savefig(drawing, dpi=90)
                drawing = None


if __name__ == "__main__":
    main()
