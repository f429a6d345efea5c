"""Affine values: sparse affine functions of a program's columns, many at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, diags_array, vstack

from formulation.network import Index
from tests.oracles.intervals import Array


@dataclass(frozen=True, eq=False)
class Values:
    """weight @ columns + constant, one row per value."""

    weight: csr_array
    constant: Array

    def __add__(self, other: Values | Array) -> Values:
        if not isinstance(other, Values):
            return Values(self.weight, self.constant + other)
        width = max(self.weight.shape[1], other.weight.shape[1])
        return Values(wide(self.weight, width) + wide(other.weight, width), self.constant + other.constant)

    def __sub__(self, other: Values | Array) -> Values:
        return self + (other.times(-np.ones(len(other.constant))) if isinstance(other, Values) else -other)

    def __getitem__(self, rows: Index) -> Values:
        return Values(self.weight[rows], self.constant[rows])

    def times(self, factor: Array) -> Values:
        """Each value times a number of its own."""
        return Values(csr_array(diags_array(factor) @ self.weight), factor * self.constant)

    def mapped(self, matrix: Array | csr_array) -> Values:
        """matrix @ values."""
        return Values(csr_array(csr_array(matrix) @ self.weight), matrix @ self.constant)


def wide(matrix: csr_array, width: int) -> csr_array:
    return csr_array((matrix.data, matrix.indices, matrix.indptr), shape=(matrix.shape[0], width))


def stacked(values: list[Values], width: int) -> Values:
    if not values:
        return Values(csr_array((0, width)), np.zeros(0))
    matrix = vstack([wide(each.weight, width) for each in values], format="csr")
    return Values(csr_array(matrix), np.concatenate([each.constant for each in values]))
