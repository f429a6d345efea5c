"""Enclosures: arrays of real numbers known as float64 midpoints and radii, with every rounding in the radius.

For a sum of k products in any order, fused or not, the float64 result is off by at most gamma_k times the sum of the
absolute products, gamma_k = k u / (1 - k u), u = 2^-53, but for underflow (Higham, "Accuracy and Stability of Numerical
Algorithms", 2nd ed., section 3.1). Radii are themselves computed in float64, and widened by what that rounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from formulation.network import Array, Index, Matrix

UNIT = 2.0**-53
TINY = 2.0**-1060  # more than any underflow of a product


@dataclass(frozen=True, eq=False)
class Enclosure:
    """Real numbers within `radius` >= 0 of `middle`, elementwise, of one shape."""

    middle: Array
    radius: Array

    @staticmethod
    def exactly(values: Array) -> Enclosure:
        """Float64 numbers as the real numbers that they are."""
        middle = np.asarray(values, dtype=float)
        return Enclosure(middle, np.zeros(middle.shape))

    @staticmethod
    def between(low: Array, high: Array) -> Enclosure:
        """Every number from `low` to `high`."""
        middle = low / 2 + high / 2
        return Enclosure(middle, _wider(np.maximum(high - middle, middle - low)))

    @staticmethod
    def of(value: Fraction) -> Enclosure:
        """A rational number."""
        middle = np.array(float(value))
        return Enclosure(middle, _wider(UNIT * np.abs(middle)))

    @property
    def low(self) -> Array:
        """Float64 numbers below all of it."""
        return np.asarray(np.nextafter(self.middle - self.radius, -np.inf))

    @property
    def high(self) -> Array:
        """Float64 numbers above all of it."""
        return np.asarray(np.nextafter(self.middle + self.radius, np.inf))

    def __getitem__(self, where: Any) -> Enclosure:
        return Enclosure(np.asarray(self.middle[where]), np.asarray(self.radius[where]))

    def __neg__(self) -> Enclosure:
        return Enclosure(-self.middle, self.radius)

    def __add__(self, other: Enclosure) -> Enclosure:
        middle = self.middle + other.middle
        return Enclosure(middle, _wider(self.radius + other.radius + UNIT * np.abs(middle)))

    def __sub__(self, other: Enclosure) -> Enclosure:
        return self + (-other)

    def __mul__(self, other: Enclosure) -> Enclosure:
        middle = self.middle * other.middle
        spread = np.abs(self.middle) * other.radius + np.abs(other.middle) * self.radius + self.radius * other.radius
        return Enclosure(middle, _wider(spread + UNIT * np.abs(middle)))

    def times(self, values: Array) -> Enclosure:
        """The products with float64 numbers."""
        return self * Enclosure.exactly(values)

    def where(self, mask: np.ndarray) -> Enclosure:
        """Itself where `mask` holds, 0 elsewhere."""
        return Enclosure(np.where(mask, self.middle, 0.0), np.where(mask, self.radius, 0.0))

    def row_sums(self) -> Enclosure:
        """The sums over the last axis of [rows, columns]."""
        return through(np.ones((1, self.middle.shape[1])), Enclosure(self.middle.T, self.radius.T))[0]

    def total(self) -> Enclosure:
        """The sum of everything, a scalar."""
        middle = math.fsum(self.middle.ravel())  # correctly rounded
        radius = math.fsum(self.radius.ravel())
        return Enclosure(np.array(middle), _wider(np.array(radius + UNIT * abs(middle))))


def through(matrix: Matrix, values: Enclosure) -> Enclosure:
    """The product of a float64 matrix [rows, k] with an enclosure [k, n]."""
    sparse = not isinstance(matrix, np.ndarray)
    terms = int(np.diff(csr_array(matrix).indptr).max(initial=0)) if sparse else matrix.shape[1]
    gamma = terms * UNIT / (1 - terms * UNIT)
    spread = abs(matrix) @ (gamma * np.abs(values.middle) + values.radius)
    widened = np.asarray(spread) * (1 + 4 * (terms + 4) * UNIT) + terms * TINY
    return Enclosure(np.asarray(matrix @ values.middle), _wider(widened))


def gathered(values: Enclosure, place: Index, size: int) -> Enclosure:
    """Sums [size] of values [k] by their place."""
    matrix = csr_array((np.ones(len(place)), (place, np.arange(len(place)))), shape=(size, len(place)))
    return through(matrix, Enclosure(values.middle[:, None], values.radius[:, None]))[:, 0]


def _wider(radius: Array) -> Array:
    """More than a radius that a few roundings of its own, and an underflow, may have made too small."""
    return np.asarray(radius * (1 + 16 * UNIT) + TINY)
