"""Images and labels from whatever a person has: a DataLoader, an iterable of batches, a data set, a pair of tensors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from training import DataError, LabelError, predict

BATCH = 256
GIVE = "give a DataLoader, an iterable of (images, labels), or the pair itself"


@dataclass(frozen=True, eq=False)
class Samples:
    """Images [n, ...] as the network takes them, and their labels [n], whole numbers; both on the CPU."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def taken(self, rows: Tensor) -> Samples:
        """Those at these positions, or where these bools are true."""
        return Samples(self.images[rows], self.labels[rows])


def read_samples(data: Any, most: int) -> Samples:
    """The first images of some data, at most so many; no more batches are asked for than that takes.

    Raises DataError for what holds no images with labels, in one line that says what does.
    """
    found, count = [], 0
    for batch in batches_of(data):
        found.append(batch.taken(torch.arange(min(len(batch), most - count))))
        count += len(found[-1])
        if count >= most:
            break
    return _joined(found)


def read_scoring_set(network: nn.Module, data: Any, images: int, *, device: str = "cpu") -> Samples:
    """So many images that the network classifies correctly, as evenly over its classes as the data have them.

    The first ones of each class, in rounds of one image per class; data are read until there are enough. Raises
    DataError for data without images, or where the network classifies none correctly; LabelError for a label that the
    network has no output for; ModelError where the images do not fit.
    """
    if images < 1:
        raise DataError(f"images={images} is out of range: score on 1 or more")
    each = 0
    found: dict[int, list[Tensor]] = {}
    labels: dict[int, int] = {}
    for batch in batches_of(data):
        logits = predict(network, batch.images, device=device)
        if not each:
            each = max(1, -(-images // logits.shape[1]))
            labels = dict.fromkeys(range(logits.shape[1]), 0)
        _check_labels(batch.labels, logits.shape[1])
        for row in torch.nonzero(logits.argmax(1) == batch.labels)[:, 0].tolist():
            label = int(batch.labels[row])
            if labels[label] < each:
                labels[label] += 1
                found.setdefault(label, []).append(batch.images[row])
        if labels and min(labels.values()) == each:
            break
    if not found:
        raise DataError(
            f"the network classifies none of these images correctly: train it, or {GIVE} that it was made for"
        )
    rounds = [
        (images_of[at], label)
        for at in range(each)
        for label, images_of in sorted(found.items())
        if at < len(images_of)
    ][:images]
    return Samples(torch.stack([image for image, _ in rounds]), torch.tensor([label for _, label in rounds]))


def batches_of(data: Any) -> Iterator[Samples]:
    """Batches of images and labels, whatever they come from."""
    if hasattr(data, "images") and hasattr(data, "labels"):  # a Split, a ScoringSet
        data = (data.images, data.labels)
    if (
        isinstance(data, tuple | list)
        and len(data) == 2
        and all(isinstance(each, Tensor | np.ndarray) for each in data)
    ):
        yield from _parts(_batch(*data))
        return
    if isinstance(data, TorchDataset):
        data = DataLoader(data, batch_size=BATCH)
    if not isinstance(data, Iterable) or isinstance(data, str | bytes | dict):
        raise DataError(f"data is {type(data).__name__}: {GIVE}")
    empty = True
    for each in data:
        if not isinstance(each, tuple | list) or len(each) != 2:
            what = f"{type(each).__name__} of {len(each)}" if isinstance(each, tuple | list) else type(each).__name__
            raise DataError(f"a batch is {what}, not (images, labels): {GIVE}")
        yield _batch(*each)
        empty = False
    if empty:
        raise DataError(f"the data hold no batch (an iterator that was read before is empty): {GIVE}")


def _batch(images: Any, labels: Any) -> Samples:
    try:
        pixels, classes = (torch.as_tensor(each).detach().cpu() for each in (images, labels))
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"a batch cannot be read as tensors ({error}): {GIVE}") from error
    if pixels.ndim < 2 or len(pixels) == 0:
        raise DataError(f"images of shape {tuple(pixels.shape)} are no batch [n, ...]: {GIVE}")
    if classes.shape != pixels.shape[:1] or classes.dtype.is_floating_point or classes.dtype.is_complex:
        found = f"{classes.dtype} of shape {tuple(classes.shape)}"
        raise DataError(f"labels are {found}: give one whole number for each of {len(pixels)} images")
    return Samples(pixels, classes.long())


def _check_labels(labels: Tensor, classes: int) -> None:
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        wrong = int(labels[(labels < 0) | (labels >= classes)][0])
        raise LabelError(f"label {wrong} is out of range: the network has outputs 0 to {classes - 1}")


def _parts(whole: Samples) -> Iterator[Samples]:
    for start in range(0, len(whole), BATCH):
        yield whole.taken(torch.arange(start, min(start + BATCH, len(whole))))


def _joined(parts: list[Samples]) -> Samples:
    shapes = {tuple(each.images.shape[1:]) for each in parts}
    if len(shapes) > 1:
        raise DataError(f"batches hold images of shapes {', '.join(map(str, sorted(shapes)))}: make them alike")
    return Samples(torch.cat([each.images for each in parts]), torch.cat([each.labels for each in parts]))
