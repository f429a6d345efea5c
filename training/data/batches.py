"""Batches of images from what a person has: a tensor, a DataLoader, any iterable of images or of (images, labels)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from training.errors import DataError

BATCH = 256
GIVE = "give a tensor, a DataLoader or a list of batches"

Images: TypeAlias = Tensor | Iterable[Any]


@dataclass(frozen=True, eq=False)
class ImageBatches:
    """Images that are read batch by batch, as often as they are asked for.

    Attributes:
        source: a tensor [n, ...], or batches: tensors, or pairs of which the first is one.
    """

    source: Any

    def __iter__(self) -> Iterator[Tensor]:
        if isinstance(self.source, Tensor):
            if len(self.source):
                yield self.source
            return
        for each in self.source:
            yield _images_of(each)

    def split(self, size: int) -> Iterator[Tensor]:
        """The images in batches of so many at most.

        Args:
            size: images of a batch.
        """
        for batch in self:
            yield from torch.split(batch, size)

    def first(self, count: int = 1) -> Tensor:
        """The first images; no more batches are asked for than that takes.

        Args:
            count: of images; there may be fewer.

        Raises:
            DataError: there is none.
        """
        found: list[Tensor] = []
        for batch in self:
            found.append(batch[: count - sum(map(len, found))])
            if sum(map(len, found)) >= count:
                break
        if not found:
            raise DataError(f"the data hold no image: {GIVE}")
        return torch.cat(found)


def image_batches(images: Images) -> ImageBatches:
    """Images of a person as batches that can be read again and again.

    Args:
        images: a tensor [n, ...], a DataLoader, a data set, or an iterable of batches; labels beside them are not read.

    Raises:
        DataError: nothing of these, or an iterator, which can be read only once.
    """
    if isinstance(images, Tensor):
        return ImageBatches(images)
    if isinstance(images, TorchDataset):
        return ImageBatches(DataLoader(images, batch_size=BATCH))
    if not isinstance(images, Iterable) or isinstance(images, str | bytes | dict):
        raise DataError(f"images is {type(images).__name__}: {GIVE}")
    if isinstance(images, Iterator):
        raise DataError(f"images is a {type(images).__name__}, which can be read only once: {GIVE}")
    return ImageBatches(images)


def held_images(images: Images, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """All images and labels of a person, held at once.

    Args:
        images: a tensor [n, ...], or batches of (images, labels) as for `image_batches`.
        labels: [n]; None where they are beside the images.

    Raises:
        DataError: images without labels, or no batch.
    """
    if isinstance(images, Tensor):
        if labels is None:
            raise DataError(f"labels is missing: {GIVE} of (images, labels)")
        return images, labels
    batches = list(image_batches(images).source)
    if not batches or not all(isinstance(each, tuple | list) and len(each) == 2 for each in batches):
        raise DataError(f"the data hold no batches of (images, labels): {GIVE} of these")
    return torch.cat([_images_of(each) for each in batches]), torch.cat([torch.as_tensor(each[1]) for each in batches])


def _images_of(batch: Any) -> Tensor:
    images = batch[0] if isinstance(batch, tuple | list) and batch else batch
    if not isinstance(images, Tensor) or images.ndim < 2:
        found = f"a {type(images).__name__}" if not isinstance(images, Tensor) else f"of shape {tuple(images.shape)}"
        raise DataError(f"a batch is {found}, no images [n, ...]: {GIVE}")
    return images.detach()
