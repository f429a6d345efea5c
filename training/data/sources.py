"""Raw data sets: the arrays that a source gives, and scikit-learn's digits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Raw:
    """Images [n, C, H, W], uint8 in 0..255 or float32 in [0, 1], and labels [n] as read from their source."""

    images: Tensor
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class DataSource:
    """What a data set's source gives: its classes, its images, and its official test images if it has any."""

    classes: tuple[str, ...]
    train: Raw
    test: Raw | None


def read_digits() -> DataSource:
    """The 1,797 handwritten digits that scikit-learn carries, 8x8, one channel; they have no official test split."""
    from sklearn.datasets import load_digits  # here, because few need it, and it takes seconds to import

    bundle = load_digits()
    images = torch.from_numpy(bundle.images.astype(np.float32) / 16.0)[:, None]
    return DataSource(tuple(str(digit) for digit in range(10)), Raw(images, bundle.target.astype(np.int64)), None)
