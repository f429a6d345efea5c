"""One pass over the scoring set at a point: its logits, the rows it breaks, how far it may go, planes under the loss.

Rows are added only when violated; which ones the program holds already is remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from formulation.coefficients import row_coefficients
from formulation.loss import lifted_planes, tangent_planes, tangents
from formulation.network import Array, Index
from formulation.reduction import ReducedImages, Reduction
from formulation.rows import Rows, gate_rows, stack_rows
from formulation.sweeps import Trace, forward, nominal_rows

TOLERANCE = 1e-8  # a row broken by less counts as kept; the solvers' own tolerance is smaller


@dataclass(frozen=True, eq=False)
class Inspection:
    """What a pass at a point found.

    Attributes:
        logits: [classes, images].
        step: the largest step in [0, 1] from the unpruned network towards the point that breaks no row.
        violation: the largest violation of any row.
        rows: rows that the point breaks, the most violated of each slice.
        planes: under the loss at the points asked for.
    """

    logits: Array
    step: float
    violation: float
    rows: Rows
    planes: Rows


@dataclass(frozen=True, eq=False)
class Touch:
    """Where planes are to touch the loss: a point and the logits there, [classes, images]."""

    point: Array
    logits: Array


class Separation:
    """Passes over a scoring set that remember which rows they gave already."""

    def __init__(self, reduction: Reduction) -> None:
        self._reduction = reduction
        self._position = {node.name: k for k, node in enumerate(reduction.network.nodes)}
        self._given: dict[tuple[int, str], Index] = {}

    def inspect(
        self, point: Array, *, limit: int = 0, towards: Touch | None = None, shares: Sequence[float] = (0.0,)
    ) -> Inspection:
        """A pass at `point`: rows (at most about `limit`), and planes at shares of the way from it to another point.

        Forms are affine, so their values on the way are known from both ends and no further pass is needed.
        """
        reduction = self._reduction
        logits = np.zeros((reduction.network.classes, reduction.images))
        step, violation = 1.0, 0.0
        rows: list[Rows] = []
        made = _PlaneMaker(reduction, point, towards)
        for part in reduction.parts:
            trace = forward(reduction, part, point)
            logits[:, part.where] = trace.logits
            excess = {name: self._excess(part, name, value) for name, value in trace.rows.items()}
            violation = max(violation, *(float(np.max(e, initial=0.0)) for e in excess.values()))
            step = min(step, *(self._step(part, name, trace, e) for name, e in excess.items()))
            quota = -(-limit * part.images // reduction.images)
            rows += self._worst(part, excess, trace, point, quota)
            for share in shares:
                made.touch(part, trace.logits, share)
        return Inspection(logits, step, violation, stack_rows(rows, reduction.columns), made.finish(logits))

    def _excess(self, part: ReducedImages, name: str, value: Array) -> Array:
        """How far each row is broken (positive) or kept (negative)."""
        gate = part.gates[name]
        excess = np.maximum(gate.lower - value, value - gate.upper)
        if name in part.waiting:  # inequalities of its own take the row's place
            undecided = gate.undecided if excess.ndim == 2 else gate.undecided[:, None]
            excess = np.where(undecided, -np.inf, excess)
        return excess

    def _step(self, part: ReducedImages, name: str, trace: Trace, excess: Array) -> float:
        broken = np.nonzero(excess > TOLERANCE)
        if not len(broken[0]):
            return 1.0
        gate, end = part.gates[name], trace.rows[name][broken]
        start = nominal_rows(part, self._reduction.network, name)[broken]
        sign = np.where(end > gate.upper[broken], 1.0, -1.0)
        bound = np.where(sign > 0, gate.upper[broken], gate.lower[broken])
        room = np.maximum(TOLERANCE - sign * (start - bound), 0.0)
        return float(np.min(room / (sign * (end - start))))

    def _worst(
        self, part: ReducedImages, excess: dict[str, Array], trace: Trace, point: Array, limit: int
    ) -> list[Rows]:
        """The rows of a slice that are broken most and were not given yet."""
        if not limit:
            return []
        broken = {name: np.flatnonzero(e > TOLERANCE) for name, e in excess.items()}
        broken = {name: np.setdiff1d(b, self._known(part, name), assume_unique=True) for name, b in broken.items()}
        sizes = np.concatenate([excess[name].ravel()[b] for name, b in broken.items()])
        smallest = TOLERANCE if len(sizes) <= limit else float(np.partition(sizes, -limit)[-limit])
        found = []
        for name, b in broken.items():
            b = b[excess[name].ravel()[b] >= smallest]
            if len(b):
                self._given[part.first, name] = np.concatenate([self._known(part, name), b])
                found.append(self._rows(part, name, np.unravel_index(b, excess[name].shape), trace, point))
        return found

    def _known(self, part: ReducedImages, name: str) -> Index:
        return self._given.get((part.first, name), np.zeros(0, dtype=np.int64))

    def _rows(self, part: ReducedImages, name: str, index: tuple[Index, ...], trace: Trace, point: Array) -> Rows:
        gate = part.gates[name]
        matrix = row_coefficients(self._reduction, part, name, index)
        constant = trace.rows[name][index] - matrix @ point
        flat = np.ravel_multi_index(index[:-1], gate.lower.shape[:-1])
        source = np.stack([np.full(len(flat), self._position[name]), flat, part.first + index[-1]], axis=1)
        return gate_rows(matrix, gate.lower[index] - constant, gate.upper[index] - constant, source)


class _PlaneMaker:
    """Collects the planes of a pass slice by slice; tangents of one group may lie in two slices."""

    def __init__(self, reduction: Reduction, point: Array, towards: Touch | None) -> None:
        self.reduction, self.point, self.towards = reduction, point, towards
        self.tangents: dict[float, list[tuple[csr_array, Array]]] = {}
        self.lifted: list[Rows] = []

    def touch(self, part: ReducedImages, logits: Array, share: float) -> None:
        at = self._on_the_way(logits, share, part.where)
        point = self.point if self.towards is None else (1 - share) * self.point + share * self.towards.point
        if self.reduction.settings.cuts == "lifted":
            self.lifted.append(lifted_planes(self.reduction, part, at, point))
        else:
            self.tangents.setdefault(share, []).append(tangents(self.reduction, part, at, point))

    def finish(self, logits: Array) -> Rows:
        everywhere = slice(None)
        blocks = [
            tangent_planes(self.reduction, self._on_the_way(logits, share, everywhere), found)
            for share, found in self.tangents.items()
        ]
        blocks += self.lifted
        return stack_rows(blocks, max((b.matrix.shape[1] for b in blocks), default=0))

    def _on_the_way(self, logits: Array, share: float, images: slice) -> Array:
        return logits if self.towards is None else (1 - share) * logits + share * self.towards.logits[:, images]


def complete(reduction: Reduction, scores: Array) -> tuple[Array, Array]:
    """The point at which every undecided activation follows its ReLU or maximum, and the logits there."""
    point = np.concatenate([scores, np.zeros(reduction.columns - reduction.scores)])
    logits: Sequence[Array] = [forward(reduction, part, point, follow=True).logits for part in reduction.parts]
    return point, np.concatenate(logits, axis=1)
