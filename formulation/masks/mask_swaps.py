"""Masks by rounding and by swaps: the neighbours that the cuts do not rule out, tried in the order of their bounds.

Every cut lies below the objective everywhere, so at a mask x the neighbour x - e_i + e_j has at least

    max_k  c_k + g_k . x - g_ki + g_kj

and where that is no less than the best objective, nobody need solve its inner problem; if it is solved, its cut rules
out others. A neighbour swaps two units, takes one in, or gives one up, wherever the budget admits it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from formulation.deadline import Deadline
from formulation.masks.budgets import MaskBudget, admits, moves, reference, taken_away, within
from formulation.masks.checks import size_of
from formulation.masks.cutting_planes import CutPool
from formulation.masks.inner_problem.inner_refit import InnerAnswer
from formulation.network import Array, Network

BETTER = 1e-7  # relative: a smaller gain is none
TRIES = 60  # neighbours that are tried in one pass without a gain
ACCURATE = 1e-4  # relative: how far off the inner answer of a neighbour may be
NEITHER = -1


@dataclass(frozen=True, eq=False)
class Chosen:
    """A mask within the budget, [units], with its inner answer."""

    mask: Array
    answer: InnerAnswer

    @property
    def objective(self) -> float:
        return self.answer.objective


def rounded(network: Network, budget: MaskBudget, base: Array, scores: Array, smallest: dict[str, int]) -> Array | None:
    """The mask nearest to some scores that the budget admits, as far as a greedy rule finds it.

    Widths are the scores' sums, reduced where the budget asks for it, by the units with the least scores; each layer
    keeps its highest scores, but no more changes than the trust region allows.

    Args:
        network: whose units are chosen.
        budget: the limits.
        base: the mask so far, [units].
        scores: [units].
        smallest: widths that the budget admits.

    Returns:
        The mask, [units], or None.
    """
    slices = network.score_slices
    order = {name: np.argsort(-scores[where], kind="stable") for name, where in slices.items()}
    widths = {}
    for name, units in network.units.items():
        most = min(budget.counts.get(name, units), budget.at_most.get(name, units))
        widths[name] = budget.counts.get(name, int(np.clip(round(float(scores[slices[name]].sum())), 1, most)))
    while not within(budget, widths):
        able = [name for name in widths if widths[name] > 1 and name not in budget.counts]
        if not able:
            return None
        last = {name: scores[slices[name]][order[name][widths[name] - 1]] for name in able}
        widths[min(able, key=lambda name: float(last[name]))] -= 1
    made = np.zeros(network.score_count)
    for name, where in slices.items():
        made[where.start + order[name][: widths[name]]] = 1.0
    if admits(network, budget, base, made):
        return made
    away = taken_away(network, budget.distances, scores, made)
    if away is not None and admits(network, budget, base, away):
        return away
    return _with_few_changes(network, budget, base, scores, (widths, smallest))


def _with_few_changes(
    network: Network, budget: MaskBudget, base: Array, scores: Array, choices: Sequence[dict[str, int]]
) -> Array | None:
    """The mask so far with the fewest changes to given widths, and then with swaps while the trust region has room."""
    for widths in choices:
        made = base.copy()
        for name, where in network.score_slices.items():
            for _ in range(int(made[where].sum()), widths[name]):
                out = np.where(made[where] == 0, scores[where], -np.inf)
                made[where.start + int(out.argmax())] = 1.0
            for _ in range(widths[name], int(made[where].sum())):
                kept = np.where(made[where] == 1, scores[where], np.inf)
                made[where.start + int(kept.argmin())] = 0.0
        away = taken_away(network, budget.distances, scores, made)
        made = made if away is None else away
        if not admits(network, budget, base, made):
            continue
        while True:
            swap = _best_swap(network, scores, made)
            if swap is None or not admits(network, budget, base, swap):
                return made
            made = swap
    return None


def _best_swap(network: Network, scores: Array, made: Array) -> Array | None:
    best, found = 0.0, None
    for where in network.score_slices.values():
        kept, gone = np.flatnonzero(made[where] == 1), np.flatnonzero(made[where] == 0)
        if not len(kept) or not len(gone):
            continue
        worst, dearest = kept[scores[where][kept].argmin()], gone[scores[where][gone].argmax()]
        gain = float(scores[where][dearest] - scores[where][worst])
        if gain > best:
            best, found = gain, made.copy()
            found[[where.start + worst, where.start + dearest]] = 0.0, 1.0
    return found


@dataclass(eq=False)
class MaskSearch:
    """The best mask so far, and the masks that were tried."""

    pool: CutPool
    budget: MaskBudget
    deadline: Deadline
    best: Chosen | None = None

    def offer(self, mask: Array | None) -> bool:
        """Try a mask that the budget admits, unless the cuts rule it out; True where it is the best now."""
        if mask is None:
            return False
        target = np.inf if self.best is None else self._target(self.best)
        if self.pool.below(mask) >= target:
            return False
        return self._try(mask, target)

    @staticmethod
    def _target(best: Chosen) -> float:
        return best.objective - BETTER * size_of(best.objective)

    def _try(self, mask: Array, target: float) -> bool:
        tolerance = ACCURATE * (size_of(target) if np.isfinite(target) else 1.0)
        answer = self.pool.solve(mask, tolerance, enough=target)
        if answer.objective >= target:
            return False
        self.best = Chosen(mask, answer)
        return True

    def swap(self, passes: int) -> None:
        """Take the first better neighbour, again and again, for so many passes at most."""
        for _ in range(passes):
            if self.best is None or not self._pass():
                return

    def _pass(self) -> bool:
        assert self.best is not None
        chosen, target = self.best.mask, self._target(self.best)
        leaving, coming, allowed = self._neighbours(chosen)
        for _ in range(TRIES):
            if not self.deadline.leaves(0.0):
                return False
            bounds = np.where(allowed, self._below(chosen, leaving, coming), np.inf)
            place = np.unravel_index(int(bounds.argmin()), bounds.shape)
            if bounds[place] >= target:
                return False
            allowed[place] = False
            neighbour = chosen.copy()
            for unit, value in ((leaving[place[0]], 0.0), (coming[place[1]], 1.0)):
                if unit != NEITHER:
                    neighbour[unit] = value
            if self._try(neighbour, target):
                return True
        return False

    def _neighbours(self, chosen: Array) -> tuple[Array, Array, Array]:
        """Units that may leave and come, NEITHER last, and which pairs the budget admits."""
        network, base = self.pool.problem.network, self.pool.problem.mask
        leaving = np.append(np.flatnonzero(chosen == 1), NEITHER)
        coming = np.append(np.flatnonzero(chosen == 0), NEITHER)
        names = list(network.units)
        layer = np.append(np.repeat(np.arange(len(names)), list(network.units.values())), len(names))
        widths = {name: int(chosen[where].sum()) for name, where in network.score_slices.items()}
        table = np.zeros((len(names) + 1, len(names) + 1), dtype=bool)
        for i in range(len(names) + 1):
            for j in range(len(names) + 1):
                moved = dict(widths)
                for place, by in ((i, -1), (j, 1)):
                    if place < len(names):
                        moved[names[place]] += by
                table[i, j] = (i, j) != (len(names), len(names)) and within(self.budget, moved)
        allowed = table[layer[leaving][:, None], layer[coming][None, :]]
        if self.budget.changes is not None:
            # a unit that goes back to the mask so far makes room
            gone = np.where(leaving == NEITHER, 0.0, 2 * base[leaving] - 1)
            come = np.where(coming == NEITHER, 0.0, 1 - 2 * base[coming])
            differing = np.abs(chosen - base).sum() + gone[:, None] + come[None, :]
            allowed &= differing <= self.budget.changes + 0.5
        for away, gains in zip(self.budget.distances, moves(network, self.budget.distances, chosen), strict=True):
            gain = np.append(gains, 0.0)  # NEITHER is the last
            differing = np.abs(chosen - reference(network, away)).sum() + gain[leaving][:, None] + gain[coming][None, :]
            allowed &= differing >= away.units - 0.5
        return leaving, coming, allowed

    def _below(self, chosen: Array, leaving: Array, coming: Array) -> Array:
        """The highest cut at every neighbour, [leaving, coming]."""
        made = np.full((len(leaving), len(coming)), -np.inf)
        for cut in self.pool.cuts:
            slope = np.append(cut.slope, 0.0)
            np.maximum(made, cut.at(chosen) - slope[leaving][:, None] + slope[coming][None, :], out=made)
        return made
