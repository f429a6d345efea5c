"""Leaf bounds: what the duals of a mask solution prove of every mask, without a solver.

A leaf's duals mu of the cuts and lambda of the rows A s <= b prove of every mask in its region, lower <= s <= upper,

    objective >= sum_k mu_k c_k - lambda . b + sum_j min over s_j in [lower_j, upper_j] of d_j s_j
    d = sum_k mu_k g_k + A' lambda

whatever mu (at least 0, 1 in all) and lambda (at least 0) are. The leaves cover every mask where each branch is taken
on both sides, so the lowest of their bounds is one of every mask. With counts per layer alone the best lambda is the
layer's threshold, and the minimum is the sum of its smallest terms. Of what a leaf proves, its rounding error is taken
off: huge lambda that cancel each other prove nothing that is not so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from formulation.errors import InvalidSolution
from formulation.masks.budgets import Branch, MaskBudget, Region, Rows, rows_of
from formulation.masks.inner_problem.dual_cuts import DualCut
from formulation.masks.inner_problem.joint_problem import MaskProblem
from formulation.masks.mask_solution import Leaf, MaskSolution
from formulation.network import Array

LARGEST = 1e100  # of a dual: squares and sums are numbers still
ROUNDING = 16 * float(np.finfo(float).eps)  # of a sum, relative to the sum of its terms' sizes


def prove_masks(problem: MaskProblem, budget: MaskBudget, solution: MaskSolution) -> float:
    """The bound of every mask within the budget that a solution's duals prove.

    Args:
        problem: expansion, loss and refit weight.
        budget: of the masks.
        solution: of which the duals and the leaves are read.

    Raises:
        InvalidSolution: duals of another form, or leaves that do not cover every mask.
    """
    duals, leaves = solution.proof.duals, solution.proof.leaves
    if duals.shape[1:] != problem.duals_shape or not _numbers(duals):
        raise InvalidSolution(f"the proof's duals have shape {duals.shape}, or are no numbers; choose the masks again")
    require_cover([leaf.path for leaf in leaves])
    cuts = [problem.cut(each) for each in duals]
    return min(bound_of_leaf(problem, budget, leaf, cuts) for leaf in leaves)


def bound_of_leaf(problem: MaskProblem, budget: MaskBudget, leaf: Leaf, cuts: Sequence[DualCut]) -> float:
    """What a leaf's duals prove of the masks in its region.

    Args:
        problem: whose units are chosen.
        budget: of the masks.
        leaf: path and duals.
        cuts: of the proof.

    Raises:
        InvalidSolution: duals of another shape or sign.
    """
    region = Region.whole(problem.network)
    for step in leaf.path:
        region = region.after(step)
    rows = rows_of(problem.network, budget, problem.mask, region)
    if leaf.weights.shape != (len(cuts),) or leaf.rows.shape != rows.most.shape:
        raise InvalidSolution("a leaf's duals are not one per cut and row; choose the masks again")
    if not (np.all(leaf.weights >= 0) and np.all(leaf.rows >= 0) and np.any(leaf.weights > 0)):
        raise InvalidSolution("a leaf's duals are below 0 or nothing; choose the masks again")
    if not (_numbers(leaf.weights) and _numbers(leaf.rows)):
        raise InvalidSolution(f"a leaf's duals are not all below {LARGEST:g}; choose the masks again")
    bound = lagrangian_of_region(cuts, leaf.weights, rows, leaf.rows, region)
    if region.empty:
        return bound
    bound -= _rounding(cuts, leaf, rows)
    if not math.isfinite(bound):
        raise InvalidSolution(f"a leaf's duals prove a bound of {bound}; choose the masks again")
    return bound


def _numbers(duals: Array) -> bool:
    return bool(np.all(np.abs(duals) <= LARGEST))


def _rounding(cuts: Sequence[DualCut], leaf: Leaf, rows: Rows) -> float:
    """How far `lagrangian_of_region` may be off: relative to all its terms, none taken from another."""
    share = leaf.weights / leaf.weights.sum()
    used = np.flatnonzero(share).tolist()
    of_cuts = sum(share[k] * (abs(cuts[k].constant) + np.abs(cuts[k].slope).sum()) for k in used)
    of_rows = leaf.rows @ (np.abs(rows.most) + np.abs(rows.matrix).sum(axis=1))
    return ROUNDING * float(of_cuts + of_rows)


def lagrangian_of_region(cuts: Sequence[DualCut], weights: Array, rows: Rows, duals: Array, region: Region) -> float:
    """The bound that duals of cuts and rows prove of a region.

    Args:
        cuts: of the objective.
        weights: at least 0; scaled to 1 in all.
        rows: that every mask of the region keeps.
        duals: of the rows, at least 0.
        region: bounds of the scores.
    """
    if region.empty:
        return math.inf
    share = weights / weights.sum()
    used = np.flatnonzero(share).tolist()
    constant = sum(share[k] * cuts[k].constant for k in used)
    tilt = sum((share[k] * cuts[k].slope for k in used), np.zeros(len(region.lower))) + rows.matrix.T @ duals
    return float(constant - duals @ rows.most + np.minimum(tilt * region.lower, tilt * region.upper).sum())


def require_cover(paths: Sequence[tuple[Branch, ...]]) -> None:
    """Raise unless branches are all taken on both sides, so that the leaves hold every mask.

    Args:
        paths: of the leaves, each from the root.

    Raises:
        InvalidSolution: some masks are in no leaf.
    """
    if not paths:
        raise InvalidSolution("the proof's leaves do not cover every mask; choose the masks again")
    if len(paths) == 1 and not paths[0]:
        return
    heads = {path[0]._replace(above=False) for path in paths if path}
    if len(heads) != 1 or not all(paths):
        raise InvalidSolution("the proof's leaves are no branching of the masks; choose the masks again")
    for above in (False, True):
        require_cover([path[1:] for path in paths if path[0].above is above])
