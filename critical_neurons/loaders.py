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

from training import DataError, LabelError, ModelError, predict

BATCH = 256
MOST = 5  # classes named in a note
LONGEST = 200  # characters of what torch says
GIVE = "give a DataLoader, an iterable of (images, labels), or the pair itself"


class DoubtfulScores(UserWarning):
    """Scores that their images make doubtful."""


class UnremovableUnits(UserWarning):
    """Scores of units none of which can be removed."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Images [n, ...] as the network takes them, and their labels [n], whole numbers, or targets; both on the CPU."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def taken(self, rows: Tensor) -> Samples:
        """Those at these positions, or where these bools are true."""
        return Samples(self.images[rows], self.labels[rows])


def read_samples(data: Any, most: int, *, quantities: bool = False) -> Samples:
    """The first images of some data, at most so many; no more batches are asked for than that takes.

    Labels are classes, or `quantities`: real numbers, one or one row of them for each image.

    Raises DataError for what holds no images with labels, in one line that says what does.
    """
    _require_count(most)
    found, count = [], 0
    for batch in batches_of(data, quantities=quantities):
        found.append(batch.taken(torch.arange(min(len(batch), most - count))))
        count += len(found[-1])
        if count >= most:
            break
    return _joined(found)


@dataclass(frozen=True, eq=False)
class DrawnSamples:
    """Samples that a network classifies correctly, out of those that were looked at for them, [classes] each.

    Attributes:
        samples: in rounds of one image per class.
        asked: how many were wanted.
        seen, right: by class, how many were looked at, and how many of these the network is right about.
    """

    samples: Samples
    asked: int
    seen: Tensor
    right: Tensor

    def notes(self) -> tuple[str, ...]:
        """What makes scores doubtful: few images, a network that is mostly wrong about them, classes without any."""
        seen, right = int(self.seen.sum()), int(self.right.sum())
        found = []
        if 2 * right < seen:
            found.append(
                f"the network is right about {right} of {seen} images ({right / seen:.0%}): are these the labels, the "
                f"order of classes and the range of pixels that it was trained with?"
            )
        found += too_few(len(self.samples), self.asked)
        without = torch.nonzero(torch.bincount(self.samples.labels, minlength=len(self.seen)) == 0)[:, 0].tolist()
        if without:
            named = ", ".join(map(str, without[:MOST])) + (f" and {len(without) - MOST} more" * (len(without) > MOST))
            found.append(f"no image of class {named} speaks for the units that it needs")
        return tuple(found)


def too_few(found: int, asked: int) -> tuple[str, ...]:
    """A note where fewer images were found than asked for; none elsewhere."""
    return (f"scored on {found} images, {asked} were asked for: the data have no more",) if found < asked else ()


def read_scoring_set(network: nn.Module, data: Any, images: int, *, device: str = "cpu") -> DrawnSamples:
    """So many images that the network classifies correctly, as evenly over its classes as the data have them.

    The first ones of each class, in rounds of one image per class; data are read until there are enough. Raises
    DataError for data without images, or where the network classifies none correctly; LabelError for a label that the
    network has no output for; ModelError where the images do not fit.
    """
    _require_count(images)
    each = 0
    found: dict[int, list[Tensor]] = {}
    labels: dict[int, int] = {}
    seen = right = torch.zeros(0, dtype=torch.long)
    for batch in batches_of(data):
        logits = predict(network, batch.images, device=device)
        if not each:
            each = max(1, -(-images // logits.shape[1]))
            labels = dict.fromkeys(range(logits.shape[1]), 0)
            seen = right = torch.zeros(logits.shape[1], dtype=torch.long)
        _check_labels(batch.labels, logits.shape[1])
        known = logits.argmax(1) == batch.labels
        seen = seen + torch.bincount(batch.labels, minlength=len(seen))
        right = right + torch.bincount(batch.labels[known], minlength=len(seen))
        for row in torch.nonzero(known)[:, 0].tolist():
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
    samples = Samples(torch.stack([image for image, _ in rounds]), torch.tensor([label for _, label in rounds]))
    return DrawnSamples(samples, images, seen, right)


def batches_of(data: Any, *, quantities: bool = False) -> Iterator[Samples]:
    """Batches of images and labels, whatever they come from; see `read_samples`."""
    if hasattr(data, "images") and hasattr(data, "labels"):  # a Split, a ScoringSet
        data = (data.images, data.labels)
    if (
        isinstance(data, tuple | list)
        and len(data) == 2
        and isinstance(data[0], Tensor | np.ndarray)
        and (isinstance(data[1], Tensor | np.ndarray) or _are_numbers(data[1]))
    ):
        yield from _parts(_batch(*data, quantities=quantities))
        return
    if isinstance(data, TorchDataset) or _are_single(data):
        data = _loaded(data)
    if not isinstance(data, Iterable) or isinstance(data, str | bytes | dict):
        raise DataError(f"data is {type(data).__name__}: {GIVE}")
    empty = True
    for each in data:
        if not isinstance(each, tuple | list) or len(each) != 2:
            what = f"{type(each).__name__} of {len(each)}" if isinstance(each, tuple | list) else type(each).__name__
            raise DataError(f"a batch is {what}, not (images, labels): {GIVE}")
        yield _batch(*each, quantities=quantities)
        empty = False
    if empty:
        raise DataError(f"the data hold no batch (an iterator that was read before is empty): {GIVE}")


def _require_count(images: Any) -> None:
    if not isinstance(images, int | np.integer) or isinstance(images, bool):
        raise DataError(f"images={images!r} is no whole number: say how many images are read")
    if images < 1:
        raise DataError(f"images={images} is out of range: use 1 or more")


def _are_single(data: Any) -> bool:
    """Whether these are images one by one, each with its label."""
    if not isinstance(data, list | tuple) or not data:
        return False
    first = data[0]
    return isinstance(first, list | tuple) and len(first) == 2 and np.ndim(first[1]) == 0


def _loaded(data: Any) -> Iterator[Any]:
    """Batches of a data set; raises DataError for what cannot be put together."""
    try:
        yield from DataLoader(data, batch_size=BATCH)
    except (TypeError, RuntimeError) as error:
        raise DataError(
            f"the data set's images cannot be put into batches ({' '.join(str(error).split())[:LONGEST]}): give it a "
            "transform that makes tensors of one shape, such as torchvision's ToTensor"
        ) from error


def _are_numbers(labels: Any) -> bool:
    return isinstance(labels, list | tuple) and all(isinstance(each, int | np.integer) for each in labels)


def _batch(images: Any, labels: Any, *, quantities: bool = False) -> Samples:
    try:
        pixels, classes = (torch.as_tensor(each).detach().cpu() for each in (images, labels))
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"a batch cannot be read as tensors ({error}): {GIVE}") from error
    if pixels.ndim < 2 or len(pixels) == 0:
        raise DataError(f"images of shape {tuple(pixels.shape)} are no batch [n, ...]: {GIVE}")
    if pixels.is_floating_point() and not bool((finite := torch.isfinite(pixels).flatten(1).all(1)).all()):
        raise DataError(f"image {int(torch.nonzero(~finite)[0])} of a batch holds NaN or infinite values: leave it out")
    if quantities:
        return Samples(pixels, _quantities(classes, len(pixels)))
    if classes.shape != pixels.shape[:1] or classes.dtype.is_floating_point or classes.dtype.is_complex:
        found = f"{classes.dtype} of shape {tuple(classes.shape)}"
        remedy = _as_classes(classes, len(pixels)) or ", or where they are quantities set loss='squared'"
        raise DataError(f"labels are {found}: give one whole number for each of {len(pixels)} images{remedy}")
    return Samples(pixels, classes.long())


def _quantities(targets: Tensor, images: int) -> Tensor:
    if targets.ndim not in (1, 2) or len(targets) != images:
        raise DataError(f"targets are of shape {tuple(targets.shape)}: give a number or a row for each of {images}")
    if not targets.is_floating_point():
        raise DataError(
            f"targets are {targets.dtype}, and loss='squared' reads quantities: give targets.float() where they are"
        )
    if not bool((finite := torch.isfinite(targets.reshape(images, -1)).all(1)).all()):
        raise DataError(f"target {int(torch.nonzero(~finite)[0])} of a batch is NaN or infinite: leave it out")
    return targets


def _as_classes(labels: Tensor, images: int) -> str:
    """How such labels become classes, where they can."""
    if labels.shape == (images, 1):
        return ", as labels.reshape(-1).long() does"
    if labels.ndim == 2 and len(labels) == images:
        return ", as labels.argmax(1) does for one row of classes each"
    whole = labels.shape == (images,) and not labels.is_complex() and bool((labels == labels.round()).all())
    return ", as labels.long() does" if whole else ""


def _check_labels(labels: Tensor, classes: int) -> None:
    if classes == 1:
        raise ModelError(
            "the network has one output, over which labels are no classes: append nn.Linear(1, 2, bias=False) with "
            "weight [[0], [1]] to what it returns before any sigmoid; where the output is a quantity, set "
            "loss='squared' and give targets"
        )
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        wrong = int(labels[(labels < 0) | (labels >= classes)][0])
        from_one = int(labels.min()) == 1 and int(labels.max()) == classes
        remedy = "; labels that begin at 1 become classes by labels - 1" if from_one else ""
        raise LabelError(f"label {wrong} is out of range: the network has outputs 0 to {classes - 1}{remedy}")


def _parts(whole: Samples) -> Iterator[Samples]:
    for start in range(0, len(whole), BATCH):
        yield whole.taken(torch.arange(start, min(start + BATCH, len(whole))))


def _joined(parts: list[Samples]) -> Samples:
    shapes = {tuple(each.images.shape[1:]) for each in parts}
    if len(shapes) > 1:
        raise DataError(f"batches hold images of shapes {', '.join(map(str, sorted(shapes)))}: make them alike")
    return Samples(torch.cat([each.images for each in parts]), torch.cat([each.labels for each in parts]))
