"""Separation oracle: violated cuts, loss cuts and the largest feasible step, from one pass over the scoring set.

Cuts are added only when violated; which ones the program holds already is remembered.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from formulation.deadline import NEVER, Deadline
from formulation.network import Array, Index
from formulation.relaxation import (
    Cuts,
    ReducedBatch,
    Reduction,
    Trace,
    coefficients_of_cuts,
    cuts_at_once,
    forward,
    gate_cuts,
    lifted_loss_cuts,
    nominal_gate_inputs,
    stack_cuts,
    tangent_loss_cuts,
    tangents,
)
from formulation.solve.pass_pace import PassPace

TOLERANCE = 1e-8  # a cut broken by less counts as kept; the solvers' own tolerance is smaller


@dataclass(frozen=True, eq=False)
class Inspection:
    """What a pass at a point found.

    Attributes:
        logits: [classes, images].
        step: the largest step in [0, 1] from the unpruned network towards the point that breaks no cut.
        violation: the largest violation of any cut.
        cuts: cuts that the point breaks, those of each batch that the way to it meets first.
        loss_cuts: under the loss at the points asked for; none where the deadline came before all of them were made.
        seconds: of the passes forwards.
        cut_short: cuts are missing for want of time.
    """

    logits: Array
    step: float
    violation: float
    cuts: Cuts
    loss_cuts: Cuts
    seconds: float = 0.0
    cut_short: bool = False


@dataclass(frozen=True, eq=False)
class TangentPoint:
    """Where loss cuts are tangent to the loss: a point and the logits there, [classes, images]."""

    point: Array
    logits: Array


def first_of(values: Array, ties: Array, limit: int) -> NDArray[np.bool_]:
    """The entries with the largest values, at most so many; of equal ones those with the larger second value.

    Args:
        values, ties: [n].
        limit: how many.

    Returns:
        Which they are, [n].
    """
    if len(values) <= limit:
        return np.ones(len(values), dtype=bool)
    least = np.partition(values, -limit)[-limit]
    # Windows whose members are all equal give any number of cuts that are met at once.
    near = np.flatnonzero(values >= least)
    taken = np.zeros(len(values), dtype=bool)
    taken[near[np.lexsort((-ties[near], -values[near]))[:limit]]] = True
    return taken


class Separation:
    """Passes over a scoring set that remember which cuts they gave already."""

    def __init__(self, reduction: Reduction) -> None:
        self._reduction = reduction
        self._position = {node.name: k for k, node in enumerate(reduction.network.nodes)}
        self._given: dict[tuple[int, str], Index] = {}
        self._pace = PassPace()

    def inspect(
        self,
        point: Array,
        *,
        limit: int = 0,
        towards: TangentPoint | None = None,
        shares: Sequence[float] = (0.0,),
        deadline: Deadline = NEVER,
    ) -> Inspection:
        """A pass at `point`: cuts (at most about `limit`), and loss cuts at shares of the way from it to another point.

        Forms are affine, so their values on the way are known from both ends and no further pass is needed. Cuts
        are made as long as the deadline leaves time for the rest of the pass; raises TimeLimitReached where it
        leaves none.
        """
        reduction = self._reduction
        logits = np.zeros((reduction.network.classes, reduction.images))
        step, violation = 1.0, 0.0
        found: list[Cuts] = []
        made, pace = _LossCutMaker(reduction, point, towards), self._pace.started()
        batches = iter(reduction.batches)
        for left in reversed(range(len(reduction.starts))):
            deadline.require("a pass over the scoring set", pace.batch)
            started = time.monotonic()
            batch = next(batches)
            trace = forward(reduction, batch, point)
            pace.passed(time.monotonic() - started, batch.images)
            spare = deadline.earlier(left * pace.batch)
            logits[:, batch.where] = trace.logits
            excess = {name: self._excess(batch, name, value) for name, value in trace.cut_values.items()}
            violation = max([violation, *(float(np.max(e, initial=0.0)) for e in excess.values())])
            step = min([step, *(self._step(batch, name, trace, e) for name, e in excess.items())])
            quota = -(-limit * batch.images // reduction.images)
            for share in shares:
                if not pace.short and spare.leaves(pace.loss_cut * batch.images):
                    made.add(batch, trace.logits, share)
                    pace.loss_cut = pace.lap() / batch.images
                else:
                    pace.short = made.incomplete = True
            found += self._met_first(batch, excess, trace, point, quota, spare)
        stacked = stack_cuts(found, reduction.columns)
        return Inspection(logits, step, violation, stacked, made.finish(logits), pace.seconds, pace.short)

    def _excess(self, batch: ReducedBatch, name: str, value: Array) -> Array:
        """How far each cut is broken (positive) or kept (negative)."""
        gate = batch.gates[name]
        excess = np.maximum(gate.lower - value, value - gate.upper)
        if name in batch.unstable:  # inequalities of its own take the cut's place
            unstable = gate.unstable if excess.ndim == 2 else gate.unstable[:, None]
            excess = np.where(unstable, -np.inf, excess)
        return excess

    def _step(self, batch: ReducedBatch, name: str, trace: Trace, excess: Array) -> float:
        broken = np.nonzero(excess > TOLERANCE)
        if not len(broken[0]):
            return 1.0
        gate, end = batch.gates[name], trace.cut_values[name][broken]
        start = nominal_gate_inputs(batch, self._reduction.network, name)[broken]
        sign = np.where(end > gate.upper[broken], 1.0, -1.0)
        bound = np.where(sign > 0, gate.upper[broken], gate.lower[broken])
        room = np.maximum(TOLERANCE - sign * (start - bound), 0.0)
        return float(np.min(room / (sign * (end - start))))

    def _met_first(
        self, batch: ReducedBatch, excess: dict[str, Array], trace: Trace, point: Array, limit: int, spare: Deadline
    ) -> list[Cuts]:
        """The broken cuts of a batch that are met first and were not given yet, as many as there is time for."""
        if not limit or not excess:
            return []
        broken = {name: np.flatnonzero(e > TOLERANCE) for name, e in excess.items()}
        broken = {name: np.setdiff1d(b, self.cuts_given(batch, name), assume_unique=True) for name, b in broken.items()}
        beyond = {
            name: self._beyond(batch, name, b, excess[name], trace.cut_values[name]) for name, b in broken.items()
        }
        size = np.concatenate([excess[name].ravel()[b] for name, b in broken.items()])
        taken = first_of(np.concatenate(list(beyond.values())), size, limit)
        parts = np.split(taken, np.cumsum([len(b) for b in broken.values()])[:-1])
        found = []
        for (name, b), part in zip(broken.items(), parts, strict=True):
            b = b[part]
            for some in self._pace.blocks(b, cuts_at_once(self._reduction.network), spare):
                self._given[batch.first, name] = np.concatenate([self.cuts_given(batch, name), some])
                found.append(self._cuts(batch, name, np.unravel_index(some, excess[name].shape), trace, point))
        return found

    def _beyond(self, batch: ReducedBatch, name: str, cuts: Index, excess: Array, end: Array) -> Array:
        """The share of the way from the unpruned network to the point that lies beyond each broken cut.

        Those met first cut off the most of the way; by how much the point breaks a cut says little, for answers lie far
        outside at first.
        """
        start = nominal_gate_inputs(batch, self._reduction.network, name)
        made: Array = excess.ravel()[cuts] / np.abs(end.ravel()[cuts] - start.ravel()[cuts])
        return made

    def cuts_given(self, batch: ReducedBatch, name: str) -> Index:
        return self._given.get((batch.first, name), np.zeros(0, dtype=np.int64))

    def _cuts(self, batch: ReducedBatch, name: str, index: tuple[Index, ...], trace: Trace, point: Array) -> Cuts:
        gate = batch.gates[name]
        matrix = coefficients_of_cuts(self._reduction, batch, name, index)
        constant = trace.cut_values[name][index] - matrix @ point
        flat = np.ravel_multi_index(index[:-1], gate.lower.shape[:-1])
        source = np.stack([np.full(len(flat), self._position[name]), flat, batch.first + index[-1]], axis=1)
        return gate_cuts(matrix, gate.lower[index] - constant, gate.upper[index] - constant, source)


class _LossCutMaker:
    """Collects the loss cuts of a pass batch by batch; tangents of one group may lie in two batches."""

    def __init__(self, reduction: Reduction, point: Array, towards: TangentPoint | None) -> None:
        self.reduction, self.point, self.towards = reduction, point, towards
        self.tangents: dict[float, list[tuple[csr_array, Array]]] = {}
        self.lifted: list[Cuts] = []
        self.incomplete = False

    def add(self, batch: ReducedBatch, logits: Array, share: float) -> None:
        at = self._on_the_way(logits, share, batch.where)
        point = self.point if self.towards is None else (1 - share) * self.point + share * self.towards.point
        if self.reduction.settings.cuts == "lifted":
            self.lifted.append(lifted_loss_cuts(self.reduction, batch, at, point))
        else:
            self.tangents.setdefault(share, []).append(tangents(self.reduction, batch, at, point))

    def finish(self, logits: Array) -> Cuts:
        if self.incomplete:  # a group's tangent takes all of its images
            return stack_cuts([], 0)
        everywhere = slice(None)
        blocks = [
            tangent_loss_cuts(self.reduction, self._on_the_way(logits, share, everywhere), found)
            for share, found in self.tangents.items()
        ]
        blocks += self.lifted
        return stack_cuts(blocks, max((b.matrix.shape[1] for b in blocks), default=0))

    def _on_the_way(self, logits: Array, share: float, images: slice) -> Array:
        return logits if self.towards is None else (1 - share) * logits + share * self.towards.logits[:, images]


def complete(reduction: Reduction, scores: Array, deadline: Deadline = NEVER) -> tuple[Array, Array]:
    """The point at which every unstable activation follows its ReLU or maximum, and the logits there.

    Raises TimeLimitReached where the deadline comes first.
    """
    point = np.concatenate([scores, np.zeros(reduction.columns - reduction.scores)])
    logits: list[Array] = []
    batches, longest = iter(reduction.batches), 0.0
    for _ in reduction.starts:
        deadline.require("a pass over the scoring set", longest)
        started = time.monotonic()
        logits.append(forward(reduction, next(batches), point, follow=True).logits)
        longest = max(longest, time.monotonic() - started)
    return point, np.concatenate(logits, axis=1)
