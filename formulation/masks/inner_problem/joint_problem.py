"""The inner problems of several data sets as one: the mean of their objectives, or the worst, and its cuts.

With F_k(s) the objective of data set k at scores s, its own best changes of the weights in it, and w_k > 0 its weight,

    mean     F(s) = sum_k w_k F_k(s) / n
    worst    F(s) = max_k w_k F_k(s)  =  max { sum_k l_k w_k F_k(s) : l >= 0, sum_k l_k = 1 }

Both are convex. Cuts c_k of the data sets, whatever their duals, make a cut of F,

    F(s)  >=  sum_k l_k w_k c_k(s)        l_k = 1 / n for the mean, any l >= 0 of sum 1 for the worst,

so that the shares l are duals like any others: the maximum over them is what the worst objective is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from formulation.masks.inner_problem.dual_cuts import DualCut
from formulation.masks.inner_problem.inner_refit import InnerAnswer, InnerProblem
from formulation.network import Array, Network

Over = Literal["mean", "worst"]


@dataclass(frozen=True, eq=False)
class JointProblem:
    """Several inner problems on the same units.

    An answer's duals are one vector: the shares l, then those of each data set.

    Attributes:
        names, problems: of the data sets, in one order.
        weights: w > 0, [data sets].
        over: `mean` or `worst`.
    """

    names: tuple[str, ...]
    problems: tuple[InnerProblem, ...]
    weights: Array
    over: Over

    @property
    def network(self) -> Network:
        """One whose units are chosen: those of all the networks are the same."""
        return self.problems[0].network

    @property
    def mask(self) -> Array:
        """m, the mask so far, [units]."""
        return self.problems[0].mask

    @property
    def images(self) -> int:
        """How many there are in all."""
        return sum(each.images for each in self.problems)

    @property
    def duals_shape(self) -> tuple[int, ...]:
        """The shape of an answer's duals."""
        return (len(self.problems) + sum(math.prod(each.duals_shape) for each in self.problems),)

    @property
    def named_problems(self) -> tuple[tuple[str, InnerProblem], ...]:
        """The data sets' names and problems."""
        return tuple(zip(self.names, self.problems, strict=True))

    def combined(self, values: Sequence[float]) -> float:
        """The mean or the worst of the data sets' weighted values."""
        weighted = self.weights * np.asarray(values)
        return float(weighted.mean() if self.over == "mean" else weighted.max())

    def cut(self, duals: Array) -> DualCut:
        """The cut of some duals; shares that are none become some, so that any numbers are a proof."""
        count = len(self.problems)
        shares, last = self._proper(duals[:count]) * self.weights, count
        constant, slope = 0.0, np.zeros(len(self.mask))
        for share, each in zip(shares, self.problems, strict=True):
            first, last = last, last + math.prod(each.duals_shape)
            if share > 0:
                made = each.cut(duals[first:last].reshape(each.duals_shape))
                constant, slope = constant + share * made.constant, slope + share * made.slope
        return DualCut(float(constant), slope)

    def _proper(self, shares: Array) -> Array:
        equal = np.full(len(shares), 1 / len(shares))
        if self.over == "mean":
            return equal
        held = np.clip(shares, 0.0, None)
        return held / held.sum() if held.sum() > 0 else equal

    def proofs(self, answer: InnerAnswer) -> tuple[Array, ...]:
        """All duals of an answer that make a cut: of the worst objective one for each data set, the worst one last."""
        if self.over == "mean":
            return (answer.duals,)
        count = len(self.problems)
        worst = int(answer.duals[:count].argmax())
        order = [*(k for k in range(count) if k != worst), worst]
        return tuple(np.concatenate([np.eye(count)[k], answer.duals[count:]]) for k in order)

    def unchanged_loss(self, scores: Array) -> float:
        """The mean or the worst loss at some scores where no weight changes."""
        return self.combined([each.unchanged_loss(scores) for each in self.problems])

    def start(self, changes: Sequence[Array], scores: Array) -> tuple[Array, ...]:
        """Changes of another answer, as far as the scores leave room for them."""
        parts = zip(self.problems, self._split(changes), strict=True)
        return tuple(made for each, own in parts for made in each.start(own, scores))

    def named(self, changes: Sequence[Array]) -> dict[str, Array]:
        """An answer's changes by `<data set>/<layer that reads the units>`."""
        parts = zip(self.named_problems, self._split(changes), strict=True)
        return {f"{name}/{node}": made for (name, each), own in parts for node, made in each.named(own).items()}

    @staticmethod
    def changes_of(name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
        """What `named` made, of one data set."""
        return {key.removeprefix(f"{name}/"): made for key, made in changes.items() if key.startswith(f"{name}/")}

    def _split(self, changes: Sequence[Array]) -> list[Sequence[Array]]:
        ends = np.cumsum([0, *(len(each.expansion.readings) for each in self.problems)])
        return [changes[first:last] for first, last in pairwise(ends)]

    def solve(
        self, scores: Array, tolerance: float, start: Sequence[Array] | None = None, enough: float = math.inf
    ) -> InnerAnswer:
        """The best changes at some scores, of each data set its own.

        Args:
            scores, tolerance, start, enough: as for `InnerProblem.solve`.
        """
        begun = [None] * len(self.problems) if start is None else self._split(start)
        answers: list[InnerAnswer] = []
        for each, weight, own in zip(self.problems, self.weights, begun, strict=True):
            answers.append(each.solve(scores, tolerance / weight, own, self._left(enough, answers) / weight))
        bounds = [each.bound for each in answers]
        shares = np.full(len(bounds), 1 / len(bounds))
        if self.over == "worst":
            shares = np.eye(len(bounds))[int((self.weights * bounds).argmax())]
        return InnerAnswer(
            self.combined([each.objective for each in answers]),
            self.combined(bounds),
            np.concatenate([shares, *(each.duals.ravel() for each in answers)]),
            tuple(made for each in answers for made in each.changes),
        )

    def _left(self, enough: float, answers: Sequence[InnerAnswer]) -> float:
        """The weighted bound of the next data set at which nobody cares how much more it is."""
        proved = [weight * each.bound for weight, each in zip(self.weights, answers, strict=False)]
        if self.over == "mean":
            return enough * len(self.problems) - float(sum(proved))
        return -math.inf if max(proved, default=-math.inf) >= enough else enough


MaskProblem = InnerProblem | JointProblem
