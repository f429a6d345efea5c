"""Cutting planes: the relaxed mask program of a region, its cuts made between the master's answer and the best point.

At a point s the inner problem gives an objective and a dual cut. The next point lies half the way from the best point
so far to the lowest of the master program: nearer the best one cuts are worth more, but only at the lowest are they
sure to move it. So where a cut does not, the master's own point is next.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from formulation.deadline import Deadline
from formulation.errors import TimeLimitReached
from formulation.masks.budgets import MaskBudget, Region, Rows, rows_of
from formulation.masks.checks import lagrangian_of_region, size_of
from formulation.masks.inner_problem.dual_cuts import DualCut
from formulation.masks.inner_problem.inner_refit import InnerAnswer
from formulation.masks.inner_problem.joint_problem import MaskProblem
from formulation.masks.master_program import PRICE, Master
from formulation.network import Array
from formulation.score_settings import ScoreSettings

STEP = 0.5  # of the way from the best point to the master's
EXACT = 0.1  # of the gap left: how far off an inner answer may be
STALE = 1e-7  # relative progress of a bound below which a round counts as idle
IDLE = 30
MOST_EXCESS = 1e-7
DEARER = 1e3


@dataclass(eq=False)
class CutPool:
    """Every cut so far with the duals behind it, and the weights' changes of the last point, where the next begins."""

    problem: MaskProblem
    cuts: list[DualCut] = field(default_factory=list)
    duals: list[Array] = field(default_factory=list)
    changes: tuple[Array, ...] | None = None

    def solve(self, scores: Array, tolerance: float, enough: float = np.inf) -> InnerAnswer:
        """The inner problem at some scores, as `InnerProblem.solve`; its cuts are kept."""
        start = None if self.changes is None else self.problem.start(self.changes, scores)
        found = self.problem.solve(scores, tolerance, start, enough)
        for duals in self.problem.proofs(found):
            self.cuts.append(self.problem.cut(duals))
            self.duals.append(duals)
        self.changes = found.changes
        return found

    def below(self, scores: Array, first: int = 0) -> float:
        """The highest of the cuts at some scores, of those from the first on."""
        return max((cut.at(scores) for cut in self.cuts[first:]), default=-np.inf)


@dataclass(frozen=True, eq=False)
class Relaxed:
    """What is known of a region.

    Attributes:
        scores, objective: the best point found, infinite where none was; the last point where none is in the region.
        bound: proved by the duals.
        weights, rows: these duals, of the pool's cuts and of the region's rows.
        cuts: how many of the pool's cuts `weights` speaks of.
        rounds: of the master program.
    """

    scores: Array | None
    objective: float
    bound: float
    weights: Array
    rows: Array
    rounds: int


@dataclass(eq=False)
class CuttingPlanes:
    """The relaxed program, region after region, on one pool of cuts."""

    pool: CutPool
    budget: MaskBudget
    settings: ScoreSettings
    deadline: Deadline
    master: Master | None = None
    told: Callable[[int, float, float], None] | None = None

    def relax(
        self,
        region: Region,
        start: Array | None,
        *,
        within: bool,
        until: float,
        gap: float,
        rounds: int,
        accurate: float,
    ) -> Relaxed:
        """Bound the masks of a region.

        Args:
            region: of the masks.
            start: scores from which to look; None where none are known.
            within: they lie in the region and the budget, so that their objective is one of the region.
            until: bound at which the region needs no more.
            gap: relative gap at which it is solved.
            rounds: of the master program, at most.
            accurate: the largest tolerance of an inner answer, absolute.
        """
        problem = self.pool.problem
        rows = rows_of(problem.network, self.budget, problem.mask, region)
        best = Relaxed(start, np.inf, -np.inf, np.zeros(0), np.zeros(len(rows.most)), 0)
        if start is not None and within:
            objective = self.pool.solve(start, accurate).objective
            best = _better(best, start, objective)
        elif not self.pool.cuts:
            self.pool.solve((region.lower + region.upper) / 2, accurate)
        price, idle, step = PRICE, 0, STEP
        for number in range(1, rounds + 1):
            if not self.deadline.leaves(0.0):
                break
            master = self._master(rows, region, price)
            master.add(self.pool.cuts[len(master.cuts) :])
            try:
                answer = master.solve(min(self.deadline.remaining(), 1e6))
            except TimeLimitReached:
                break
            if answer.scores is None:
                break
            proved = lagrangian_of_region(self.pool.cuts, answer.weights, rows, answer.rows, region)
            moved = proved - best.bound
            if proved > best.bound:
                best = Relaxed(best.scores, best.objective, proved, answer.weights, answer.rows, number)
            idle = 0 if moved > STALE * size_of(proved) else idle + 1
            if self.told is not None:
                self.told(number, best.bound, best.objective)
            if best.bound >= until or idle > IDLE:
                break
            if within and best.objective - best.bound <= gap * size_of(best.objective):
                break
            if answer.excess > MOST_EXCESS:
                price *= DEARER  # no scores keep the rows: a dearer excess proves it
                if price > PRICE * DEARER**3:
                    break
                continue
            point = answer.scores
            if best.scores is not None:
                point = best.scores + step * (answer.scores - best.scores)
            tolerance = max(min(accurate, EXACT * max(min(best.objective, until) - best.bound, 0.0)), 1e-12)
            before = len(self.pool.cuts)
            found = self.pool.solve(point, tolerance)
            step = STEP if self.pool.below(answer.scores, before) > answer.bound + 1e-12 else 1.0
            best = _better(best, point, found.objective) if within else replace(best, scores=point)
        return best

    def _master(self, rows: Rows, region: Region, price: float) -> Master:
        """The master of the region, on the one that is open where only bounds differ."""
        master = self.master
        if master is None or price != master.price or not _same(rows, master.rows):
            master = self.master = Master(self.pool.problem.network, rows, price, self.settings)
        master.restrict(region)
        return master


def _same(one: Rows, other: Rows) -> bool:
    return np.array_equal(one.matrix, other.matrix) and np.array_equal(one.most, other.most)


def _better(best: Relaxed, scores: Array, objective: float) -> Relaxed:
    if objective >= best.objective:
        return best
    return Relaxed(scores, objective, best.bound, best.weights, best.rows, best.rounds)
