"""What flows through a lowering: values, the units they belong to, and what a rule makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from formulation.network import Affine, Relu


@dataclass(frozen=True)
class Units:
    """Which unit of which Linear or Conv layer each activation belongs to."""

    layer: str
    kernel: int
    index: NDArray[np.int64]
    gated: bool = False  # behind the ReLU that its scores act on


@dataclass(frozen=True)
class Value:
    """A torch value during lowering: the node that makes it, its shape without the batch, its units if traceable."""

    node: str
    shape: tuple[int, ...]
    units: Units | None


@dataclass(frozen=True)
class Made:
    """What a rule makes of its source: an operation and the shape and units of its result."""

    op: Affine | Relu
    shape: tuple[int, ...]
    units: Units | None


Rule = Callable[[Value], Made | Value]
