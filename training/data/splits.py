"""Images with their labels, and the seeded, stratified way of dividing them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.digests import digest_tensors
from training.errors import DataError, LabelError


@dataclass(frozen=True, eq=False)
class Split:
    """Images [n, C, H, W], float32 in [0, 1], and their labels [n], int64 >= 0.

    Raises DataError where shapes, types or pixels are wrong, LabelError where a label is negative.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != torch.float32:
            found = f"{self.images.dtype} of shape {tuple(self.images.shape)}"
            raise DataError(f"images must be float32 of shape [n, C, H, W], found {found}")
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != torch.int64:
            found = f"{self.labels.dtype} of shape {tuple(self.labels.shape)}"
            raise DataError(f"labels must be int64 of shape [{len(self.images)}], one per image, found {found}")
        if self.images.numel() == 0:
            raise DataError(f"a split of shape {tuple(self.images.shape)} holds no images")
        self._check_pixels()
        if int(self.labels.min()) < 0:
            where = int(self.labels.argmin())
            raise LabelError(f"image {where} has label {int(self.labels[where])}: labels start at 0")

    def _check_pixels(self) -> None:
        low, high = (float(bound) for bound in torch.aminmax(self.images))
        if not (low >= 0.0 and high <= 1.0):
            good = (self.images >= 0.0) & (self.images <= 1.0)
            first = int(torch.nonzero(~good.flatten(1).all(1))[0])
            value = float(self.images[first][~good[first]][0])
            raise DataError(f"image {first} has a pixel of value {value:g}: pixels must be finite and in [0, 1]")

    def __len__(self) -> int:
        return len(self.labels)

    def digest(self) -> str:
        """SHA-256 (hex) of the images and labels in their order."""
        return digest_tensors([("images", self.images), ("labels", self.labels)])


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named data set in three splits; `classes[k]` is the name of label k.

    Raises DataError where the splits' images differ in shape, LabelError where a label has no class.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        for role in ("train", "validation", "test"):
            split: Split = getattr(self, role)
            if split.images.shape[1:] != self.train.images.shape[1:]:
                raise DataError(
                    f"dataset {self.name!r}: {role} images are {tuple(split.images.shape[1:])}, "
                    f"train images {self.input_shape}; give image_size and channels to make them alike"
                )
            if int(split.labels.max()) >= len(self.classes):
                where = int(split.labels.argmax())
                raise LabelError(
                    f"dataset {self.name!r}: {role} image {where} has label {int(split.labels[where])}, "
                    f"but there are {len(self.classes)} classes (labels 0 to {len(self.classes) - 1})"
                )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.train.images.shape[1:]
        return int(channels), int(height), int(width)


def divide_stratified(
    labels: np.ndarray, share: float, rng: np.random.Generator, classes: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (rest, part), both sorted, where `part` holds `share` of every class, rounded, at least one image.

    Raises DataError where a class has fewer than two images.
    """
    part = []
    for label, name in enumerate(classes):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            raise DataError(
                f"class {name!r} has {len(members)} images, at least 2 are needed to divide it: add images or drop it"
            )
        taken = min(max(1, round(share * len(members))), len(members) - 1)
        part.append(rng.permutation(members)[:taken])
    chosen = np.sort(np.concatenate(part))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen
