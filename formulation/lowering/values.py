"""Values that flow through a lowering, the units they belong to, and what a rule returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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

    def behind_its_units(self) -> Value:
        """The value as it is read where the ways of units end: what becomes of it there is no unit's any more."""
        return replace(self, unit=np.where(self.gated, -1, self.unit), gated=np.zeros_like(self.gated))


@dataclass(frozen=True, eq=False)
class Scaling:
    """y = scale * h + shift, activation by activation."""

    scale: Array
    shift: Array


@dataclass(frozen=True, eq=False)
class Bent:
    """y = constant + slope * h + the sum over kinks (at, weight) of weight * relu(h - at), activation by activation.

    No score acts on these ReLUs: what reads pre-activations so is not scored.
    """

    slope: Array
    constant: Array
    kinks: tuple[tuple[Array, Array], ...]

    @property
    def keeps_zero(self) -> bool:
        """Whether 0 becomes 0."""
        made = self.constant + sum(weight * np.maximum(-at, 0.0) for at, weight in self.kinks)
        return not np.any(made)


@dataclass(frozen=True, eq=False)
class Made:
    """What a rule makes of its source: an operation, the shape of its result, and whose units it carries on.

    `origin[j]` is an activation of the source whose unit activation j belongs to; None where the operation mixes
    units. `layer` where it makes units of its own. A ReLU's scores are filled in when it is placed.
    """

    op: Affine | Relu | MaxPool | Scaling | Bent
    shape: tuple[int, ...]
    origin: Index | None = None
    layer: Units | None = None


@dataclass(frozen=True, eq=False)
class Joined:
    """Values side by side.

    Attributes:
        values: those that depend on the images.
        places: of each of them, where its activations go.
        shape: of the result.
        constants: what lies elsewhere, 0 where values go.
    """

    values: list[Value]
    places: list[Index]
    shape: tuple[int, ...]
    constants: Array


LoweringRule: TypeAlias = Callable[[Value], Made | Value]
