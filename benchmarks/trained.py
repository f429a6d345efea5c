"""The paper's networks, trained for the benchmarks and kept in a folder together with their scoring images."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

import training
from training import Dataset, Epoch, FitSettings

SHAPE = (1, 28, 28)
CLASSES = 10
USUAL = FitSettings()


@dataclass(frozen=True)
class Trained:
    """A trained network's files: its weights, and scoring images in rounds of one per class."""

    model: str
    weights: Path
    images: Path

    def load(self, images: int) -> tuple[nn.Module, np.ndarray, np.ndarray]:
        """The network in evaluation mode, and the first so many scoring images [n, C, H, W] and labels [n]."""
        with np.load(self.images) as stored:
            pixels, labels = stored["images"][:images], stored["labels"][:images]
        channels, height, width = pixels.shape[1:]
        shape = (channels, height, width)
        network = training.build(self.model, input_shape=shape, classes=CLASSES, seed=0, checkpoint=self.weights)
        return network.eval(), pixels, labels


def train_all(
    models: Sequence[str],
    dataset: str,
    images: int,
    *,
    cache: Path,
    root: Path,
    epochs: int,
    seed: int,
    source: str = "",
    limit: int | None = None,
    rate_schedule: str = "constant",
) -> dict[str, Trained]:
    """Each model trained on a data set, with this many scoring images; what the cache holds is not made again.

    The scoring images are drawn like those of a flow: validation images that the network classifies correctly, equally
    many of each class. `source` is what the data set is read from, by default its name.
    """
    settings = FitSettings(epochs=epochs, seed=seed, rate_schedule=rate_schedule)
    source = source or dataset
    folder = cache / folder_name(dataset, settings, source, limit)
    made = {
        model: Trained(model, folder / model / "weights.pt", folder / model / f"images-{images}.npz")
        for model in models
    }
    missing = [each for each in made.values() if not (each.weights.exists() and each.images.exists())]
    if missing:
        data = training.load(source, root=root, seed=seed, limit=limit)
        for each in missing:
            each.weights.parent.mkdir(parents=True, exist_ok=True)
            _train(each, data, images, settings)
    return made


def folder_name(dataset: str, settings: FitSettings, source: str, limit: int | None) -> str:
    """Where networks of such a training lie: by data set, epochs and seed, and by what of the rest is not as usual."""
    parts = [f"{dataset}-{settings.epochs}-epochs-seed-{settings.seed}"]
    parts += [f"{limit}-images"] if limit is not None else []
    parts += [settings.rate_schedule] if settings.rate_schedule != USUAL.rate_schedule else []
    parts += [hashlib.sha256(source.encode()).hexdigest()[:12]] if source != dataset else []
    return "-".join(parts)


def _train(wanted: Trained, data: Dataset, images: int, settings: FitSettings) -> None:
    def report(epoch: Epoch) -> None:
        accuracy = f"{100 * epoch.validation_accuracy:.2f} %"
        print(f"train {wanted.model} on {data.name}: epoch {epoch.index}, {accuracy}", file=sys.stderr, flush=True)

    shape, classes, seed, there = data.input_shape, data.classes, settings.seed, wanted.weights.exists()
    checkpoint = wanted.weights if there else None
    network = training.build(wanted.model, input_shape=shape, classes=len(classes), seed=seed, checkpoint=checkpoint)
    if not there:
        network = training.fit(network, data.train, data.validation, settings, callbacks=[report]).model
    each = -(-images // CLASSES)
    drawn = training.draw(network.eval(), data.validation, images_per_class=each, classes=classes, seed=seed)
    with TemporaryDirectory(dir=wanted.weights.parent) as unfinished:  # a file that is there is whole
        np.savez(Path(unfinished) / "images.npz", images=drawn.images.numpy(), labels=drawn.labels.numpy())
        if not there:
            torch.save(network.state_dict(), Path(unfinished) / "weights.pt")
            (Path(unfinished) / "weights.pt").replace(wanted.weights)
        (Path(unfinished) / "images.npz").replace(wanted.images)
