"""Unstable activations and max-pool windows: those whose phase the bounds leave open, a number for each variable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from formulation.errors import InvalidSolution
from formulation.network.operations import Array, Index

NOTHING = -1  # the column of a pick where the window holds nothing


@dataclass(frozen=True, eq=False)
class Unstable:
    """The unstable activations or windows of one node: which they are, and the numbers of their variables.

    In a program the numbers are columns, in a solution the values of these columns.

    Attributes:
        where: (activation, image), [k, 2].
        value: of h, or of a window's output, [k].
        phase: of `open` [k, 1], or of a window's picks [k, window]; where the window holds nothing NOTHING in a
            program, 0 in a solution.
    """

    where: Index
    value: NDArray[Any]
    phase: NDArray[Any]

    def __post_init__(self) -> None:
        count = len(self.where)
        shapes = (self.where.shape, self.value.shape, self.phase.shape)
        fit = self.phase.ndim == 2 and shapes[:2] == ((count, 2), (count,)) and len(self.phase) == count
        if not fit or not np.issubdtype(self.where.dtype, np.integer):
            raise InvalidSolution(f"the unstable values have shapes {shapes}; score again")

    @staticmethod
    def columns(where: Index, places: NDArray[np.bool_], first: int) -> Unstable:
        """New columns from `first` on: the values, then the phases, one for each place [k, window] that is there."""
        phase = np.full(places.shape, NOTHING)
        phase[places] = first + len(where) + np.arange(int(places.sum()))
        return Unstable(where, first + np.arange(len(where)), phase)

    @staticmethod
    def joined(pieces: Sequence[Unstable]) -> Unstable:
        """Several of one node as one."""
        return Unstable(*(np.concatenate([getattr(p, what) for p in pieces]) for what in ("where", "value", "phase")))

    def __len__(self) -> int:
        return len(self.where)

    @property
    def activation(self) -> Index:
        """[k]."""
        return self.where[:, 0]

    @property
    def image(self) -> Index:
        """[k]."""
        return self.where[:, 1]

    @property
    def members(self) -> tuple[Index, Index]:
        """Of columns: position in [k] and place of every phase, in order."""
        position, place = np.nonzero(self.phase != NOTHING)
        return position, place

    @property
    def count(self) -> int:
        """Of columns: how many they are."""
        return len(self.value) + len(self.members[0])

    def at(self, point: Array, first_image: int = 0) -> Unstable:
        """The columns' values at a point, images counted from `first_image` before them."""
        values = np.where(self.phase != NOTHING, point[self.phase], 0.0)
        return Unstable(self.where + np.array([0, first_image]), point[self.value], values)

    def of_images(self, images: slice) -> Unstable:
        """Those of some images, counted from the first of them."""
        here = (self.image >= images.start) & (self.image < images.stop)
        return Unstable(self.where[here] - np.array([0, images.start]), self.value[here], self.phase[here])

    def map(self, shape: tuple[int, ...]) -> Index:
        """The value's column of every activation and image, NOTHING where stable, [activations, images]."""
        found = np.full(shape, NOTHING)
        found[self.activation, self.image] = self.value
        return found
