"""What flows through a lowering: values, the units they belong to, and what a rule makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from formulation.network import Affine, Array, Index, MaxPool, Relu


@dataclass(frozen=True, eq=False)
class Units:
    """A layer that makes units: its name, its kernel's size, and the unit of each activation it makes.

    `refusal` says why no score can act on it, whatever follows; empty where one may.
    """

    layer: str
    kernel: int
    index: Index
    refusal: str = ""


@dataclass(frozen=True, eq=False)
class Value:
    """A torch value during lowering.

    Attributes:
        node: the node that makes it.
        shape: without the batch.
        unit: the unit each activation belongs to, numbered over all layers met so far; -1: none, or several.
        gated: behind the ReLU that its unit's score acts on.
        single: nothing else reads the node that makes it.
    """

    node: str
    shape: tuple[int, ...]
    unit: Index
    gated: NDArray[np.bool_]
    single: bool = True

    @property
    def waiting(self) -> NDArray[np.bool_]:
        """Activations of a unit that has met no ReLU yet."""
        made: NDArray[np.bool_] = (self.unit >= 0) & ~self.gated
        return made


@dataclass(frozen=True, eq=False)
class Scaling:
    """y = scale * h + shift, activation by activation."""

    scale: Array
    shift: Array


@dataclass(frozen=True, eq=False)
class Made:
    """What a rule makes of its source: an operation, the shape of its result, and whose units it carries on.

    `origin[j]` is an activation of the source whose unit activation j belongs to; None where the operation mixes
    units. `layer` where it makes units of its own. A ReLU's scores are filled in when it is placed.
    """

    op: Affine | Relu | MaxPool | Scaling
    shape: tuple[int, ...]
    origin: Index | None = None
    layer: Units | None = None


Rule: TypeAlias = Callable[[Value], Made | Value]
