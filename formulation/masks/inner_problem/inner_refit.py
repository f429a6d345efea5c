"""The inner problem: the best changes of the weights at given scores, and the duals that prove them nearly best.

At fixed s the mask program is a ridge regression in U. With U_j = sqrt(s_j) V_j the last term is r |V|^2, and

    V = Qa ( X / sqrt(la lg' + 2 r) ) Qg'
    Qa la Qa' = mean_i J_i' H_i J_i,    Qg lg Qg' = mean_i z_i z_i'  with sqrt(s_j) z_j in place of z_j

makes the Hessian nearly the identity (H_i: the loss's own Hessian), so that L-BFGS needs few steps. At every step the
derivatives of the images' losses are duals of a cut; primal less cut is the step's own proof of how far it is off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from formulation.masks.inner_problem.dual_cuts import ConvexLoss, DualCut, dual_cut
from formulation.masks.inner_problem.expansion import Expansion, ReadingLayer
from formulation.network import Array, Network

MOST_STEPS = 400


@dataclass(frozen=True, eq=False)
class InnerAnswer:
    """The answer of the inner problem.

    Attributes:
        objective: of the program at the scores with these changes.
        bound: what the duals prove of the best changes at the same scores.
        duals: a, [classes, images].
        changes: U of each reading, [outputs, columns].
    """

    objective: float
    bound: float
    duals: Array
    changes: tuple[Array, ...]


@dataclass(frozen=True, eq=False)
class InnerProblem:
    """The program without its budget: an expansion, a loss and a refit weight.

    Attributes:
        refit_weight: r > 0, or infinite.
        outputs: by reading mean_i J_i' H_i J_i as eigenvalues [outputs] and eigenvectors [outputs, outputs].
    """

    expansion: Expansion
    loss: ConvexLoss
    refit_weight: float
    outputs: tuple[tuple[Array, Array], ...]

    @staticmethod
    def of(expansion: Expansion, loss: ConvexLoss, refit_weight: float) -> InnerProblem:
        """The problem, with what all its solves share."""
        if not math.isfinite(refit_weight):
            return InnerProblem(expansion, loss, refit_weight, ())
        curvature = loss.curvature(expansion.dense)
        outputs = tuple(_spectrum(_seen_by(each, curvature)) for each in expansion.readings)
        return InnerProblem(expansion, loss, refit_weight, outputs)

    @property
    def network(self) -> Network:
        """Whose units are chosen."""
        return self.expansion.network

    @property
    def mask(self) -> Array:
        """m, the mask so far, [units]."""
        return self.expansion.mask

    @property
    def images(self) -> int:
        """How many there are."""
        return self.expansion.images

    @property
    def duals_shape(self) -> tuple[int, ...]:
        """The shape of an answer's duals."""
        return self.expansion.logits.shape

    def cut(self, duals: Array) -> DualCut:
        """The cut of some duals, [classes, images]."""
        return dual_cut(self.expansion, self.loss, duals, self.refit_weight)

    def proofs(self, answer: InnerAnswer) -> tuple[Array, ...]:
        """All duals of an answer that make a cut."""
        return (answer.duals,)

    def unchanged_loss(self, scores: Array) -> float:
        """The mean loss at some scores where no weight changes."""
        return float(self.loss.values(self.expansion.logits_at(scores)).mean())

    def start(self, changes: Sequence[Array], scores: Array) -> tuple[Array, ...]:
        """Changes of another answer, as far as the scores leave room for them."""
        return tuple(c * (r.kept(scores) > 0) for c, r in zip(changes, self.expansion.readings, strict=True))

    def named(self, changes: Sequence[Array]) -> dict[str, Array]:
        """An answer's changes by the name of the layer that reads the units."""
        return {each.name: made for each, made in zip(self.expansion.readings, changes, strict=True)}

    def solve(
        self, scores: Array, tolerance: float, start: Sequence[Array] | None = None, enough: float = math.inf
    ) -> InnerAnswer:
        """The best changes at some scores.

        Args:
            scores: in [0, 1], [units].
            tolerance: absolute, of the objective less what is proved of it.
            start: changes to begin at.
            enough: a proved bound at which nobody cares how much more it is.
        """
        base = self.expansion.logits_at(scores)
        if not math.isfinite(self.refit_weight) or not self.expansion.readings:
            value = float(self.loss.values(base).mean())
            nothing = tuple(np.zeros_like(each.weight) for each in self.expansion.readings)
            return InnerAnswer(value, value, self.loss.duals(base), nothing)
        search = _Search(self, scores, base, tolerance, enough)
        return search.run(start)


def _seen_by(reading: ReadingLayer, curvature: Array) -> Array:
    """mean_i J_i' H_i J_i."""
    if reading.jacobian is None:
        return np.asarray(curvature.mean(axis=0))
    moved = np.einsum("icd,dmi->cmi", curvature, reading.jacobian)
    return np.asarray(np.tensordot(reading.jacobian, moved, axes=([0, 2], [0, 2])) / curvature.shape[0])


def _spectrum(matrix: Array) -> tuple[Array, Array]:
    values, vectors = np.linalg.eigh(matrix)
    return np.maximum(values, 0.0), vectors


class _Search:
    """L-BFGS on one inner problem at one point."""

    def __init__(self, problem: InnerProblem, scores: Array, base: Array, tolerance: float, enough: float) -> None:
        self.problem, self.base, self.tolerance, self.enough = problem, base, tolerance, enough
        self.weight, self.images = problem.refit_weight, base.shape[1]
        self.parts = [
            _Part(reading, scores, outputs, self.weight)
            for reading, outputs in zip(problem.expansion.readings, problem.outputs, strict=True)
        ]
        self.ends = np.cumsum([0, *(part.scale.size for part in self.parts)])
        self.best: tuple[float, Array, Array] | None = None  # the highest bound, its duals and its point
        self.last: tuple[float, float] = (np.inf, -np.inf)

    def run(self, start: Sequence[Array] | None) -> InnerAnswer:
        first = np.zeros(self.ends[-1])
        if start is not None:
            first = np.concatenate([part.read(own).ravel() for part, own in zip(self.parts, start, strict=True)])

        def stop(_: Array) -> None:
            if self._settled():
                raise StopIteration

        self.value(first)
        point = first
        if not self._settled():
            from scipy.optimize import minimize  # here, because it takes half a second to import

            options: Any = {"maxiter": MOST_STEPS, "maxcor": 15, "ftol": 1e-15, "gtol": 1e-12}
            found = minimize(self.value, first, jac=True, method="L-BFGS-B", callback=stop, options=options)
            point = found.x
            self.value(point)
        assert self.best is not None
        objective, _ = self.last
        bound, duals, _ = self.best
        return InnerAnswer(objective, min(bound, objective), duals, tuple(self._changes(point)))

    def _settled(self) -> bool:
        return self.last[0] - self.last[1] <= self.tolerance or self.last[1] >= self.enough

    def _changes(self, point: Array) -> list[Array]:
        return [
            part.written(point[first:last].reshape(part.scale.shape))
            for part, first, last in zip(self.parts, self.ends[:-1], self.ends[1:], strict=True)
        ]

    def value(self, point: Array) -> tuple[float, Array]:
        """The objective and its derivative; the duals of the highest bound are kept."""
        pieces = [
            point[first:last].reshape(part.scale.shape)
            for part, first, last in zip(self.parts, self.ends[:-1], self.ends[1:], strict=True)
        ]
        logits = self.base.copy()
        changes = [piece * part.scale for part, piece in zip(self.parts, pieces, strict=True)]
        for part, change in zip(self.parts, changes, strict=True):
            logits += part.moved(change)
        loss = self.problem.loss
        duals = loss.duals(logits)
        pulled = [part.pulled(duals) / self.images for part in self.parts]
        ridge = sum(float((change**2).sum()) for change in changes)
        objective = float(loss.values(logits).mean()) + self.weight * ridge
        moved = sum(float((each**2).sum()) for each in pulled)
        free = float(((duals * self.base).sum(axis=0) - loss.conjugates(duals)).mean())
        bound = free - moved / (4 * self.weight)
        self.last = objective, bound
        if self.best is None or bound > self.best[0]:
            self.best = bound, duals, point
        self.last = objective, self.best[0]
        slopes = [
            (part.scale * (each + 2 * self.weight * change)).ravel()
            for part, each, change in zip(self.parts, pulled, changes, strict=True)
        ]
        return objective, np.concatenate(slopes)


class _Part:
    """One reading at given scores, in the coordinates of the search: the columns of kept units, turned and scaled."""

    def __init__(self, reading: ReadingLayer, scores: Array, outputs: tuple[Array, Array], weight: float) -> None:
        own = np.clip(reading.kept(scores), 0.0, None)
        self.columns = np.flatnonzero(own > 0)
        self.root = np.sqrt(own[self.columns])
        scaled = reading.values[self.columns] * self.root[:, None]
        inputs, self.turn = _spectrum(scaled @ scaled.T / scaled.shape[1])
        curved, self.outputs = outputs
        self.shape = reading.weight.shape
        self.scale = 1 / np.sqrt(curved[:, None] * inputs[None, :] + 2 * weight)
        self.values = self.turn.T @ scaled
        self.jacobian = None
        if reading.jacobian is not None:
            self.jacobian = np.einsum("cmi,mk->cki", reading.jacobian, self.outputs, optimize=True)

    def moved(self, change: Array) -> Array:
        read = change @ self.values
        if self.jacobian is None:
            return np.asarray(self.outputs @ read)
        return np.asarray(np.einsum("cmi,mi->ci", self.jacobian, read))

    def pulled(self, duals: Array) -> Array:
        back = self.outputs.T @ duals if self.jacobian is None else np.einsum("cmi,ci->mi", self.jacobian, duals)
        return np.asarray(back @ self.values.T)

    def written(self, point: Array) -> Array:
        """U of the whole reading."""
        change = np.zeros(self.shape)
        change[:, self.columns] = (self.outputs @ (point * self.scale) @ self.turn.T) * self.root
        return change

    def read(self, change: Array) -> Array:
        """The inverse of `written`, for what it keeps."""
        made: Array = (self.outputs.T @ (change[:, self.columns] / self.root) @ self.turn) / self.scale
        return made
