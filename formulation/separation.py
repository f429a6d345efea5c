"""Rows are added only when violated: which rows of decided activations a point breaks, and how far it may go."""

from __future__ import annotations

import numpy as np

from formulation.gates import UNDECIDED
from formulation.loss import Rows, stack_rows
from formulation.network import Array
from formulation.reduction import GatedLayer, Reduction, sparse_rows

TOLERANCE = 1e-8  # a row broken by less counts as kept; the solvers' own tolerance is smaller


class Separation:
    """Remembers which rows of a reduction are in the program already."""

    def __init__(self, reduction: Reduction, inside: Array) -> None:
        """`inside` is a point that satisfies every row: the unpruned network."""
        self._reduction = reduction
        self._layers = [layer for part in reduction.parts for layer in part.gated]
        self._added = [np.zeros(layer.gate.state.shape, dtype=bool) for layer in self._layers]
        self._inside = [layer.forms.at(inside) for layer in self._layers]

    def largest_violation(self, point: Array) -> float:
        """The largest violation of any row at a point, >= 0."""
        return max((float(np.max(_excess(layer, point), initial=0.0)) for layer in self._layers), default=0.0)

    def step_inside(self, point: Array) -> float:
        """The largest step in [0, 1] from the unpruned network towards `point` that breaks no row."""
        step = 1.0
        for layer, start in zip(self._layers, self._inside, strict=True):
            end = layer.forms.at(point)
            for sign, bound in ((-1.0, layer.gate.lower), (1.0, layer.gate.upper)):
                broken = (sign * (end - bound) > TOLERANCE) & (layer.gate.state != UNDECIDED)
                if broken.any():
                    room = np.maximum(TOLERANCE - sign * (start - bound)[broken], 0.0)
                    step = min(step, float(np.min(room / (sign * (end - start)[broken]))))
        return step

    def violated(self, point: Array, limit: int) -> Rows:
        """The rows that `point` breaks and the program does not hold yet, the most violated first, at most `limit`."""
        width = self._reduction.columns
        excess = [
            np.where(added, 0.0, _excess(layer, point)) for layer, added in zip(self._layers, self._added, strict=True)
        ]
        sizes = np.concatenate([e[e > TOLERANCE] for e in excess] or [np.zeros(0)])
        smallest = TOLERANCE if len(sizes) <= limit else float(np.partition(sizes, -limit)[-limit])
        blocks = []
        for layer, e, added in zip(self._layers, excess, self._added, strict=True):
            j, i = np.nonzero((e > TOLERANCE) & (e >= smallest))
            if len(j):
                added[j, i] = True
                matrix = sparse_rows(layer.forms.coefficients[j, i], layer.forms.columns[i], width)
                constant = layer.forms.constant[j, i]
                blocks.append(Rows(matrix, layer.gate.lower[j, i] - constant, layer.gate.upper[j, i] - constant))
        return stack_rows(blocks, width)


def _excess(layer: GatedLayer, point: Array) -> Array:
    """How far each decided activation's row is broken (positive) or kept (negative), [activations, images]."""
    value = layer.forms.at(point)
    excess = np.maximum(layer.gate.lower - value, value - layer.gate.upper)
    return np.where(layer.gate.state == UNDECIDED, -np.inf, excess)
