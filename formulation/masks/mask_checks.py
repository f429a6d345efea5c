"""The independent check of a mask solution: the objective at the mask, and the bound of every mask, without a solver.

A leaf's duals mu of the cuts and lambda of the rows A s <= b prove of every mask in its region, lower <= s <= upper,

    objective >= sum_k mu_k c_k - lambda . b + sum_j min over s_j in [lower_j, upper_j] of d_j s_j
    d = sum_k mu_k g_k + A' lambda

whatever mu (at least 0, 1 in all) and lambda (at least 0) are. The leaves cover every mask where each branch is taken
on both sides, so the lowest of their bounds is one of every mask. With counts per layer alone the best lambda is the
layer's threshold, and the minimum is the sum of its smallest terms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from formulation.errors import CheckFailed, InvalidSetting, InvalidSolution
from formulation.masks.dual_cuts import DualCut, dual_cut, make_loss
from formulation.masks.expansion import Expansion, expand
from formulation.masks.inner_refit import InnerProblem
from formulation.masks.mask_budgets import Branch, MaskBudget, Region, Rows, admits, rows_of
from formulation.masks.mask_solution import Leaf, MaskSettings, MaskSolution, proved_budget
from formulation.network import Array, Index, Network
from formulation.scoring_data import images_digest, read_scoring_data

SMALL = 1e-3  # nats: a smaller objective counts as this one
TOLERANCE = 1e-7  # of what is computed again, relative to its own size where that exceeds 1


@dataclass(frozen=True)
class MaskVerdict:
    """What the check found: the objective and the bound computed again, and what they leave open."""

    objective: float
    bound: float
    gap: float
    leaves: int


def check_mask(model: Any, images: Any, labels: Any, solution: MaskSolution) -> MaskVerdict:
    """Check a mask solution against the model and the images that it claims to be about.

    Args:
        model, images, labels: as `choose_mask` was given them.
        solution: what `choose_mask` or `MaskSolution.load` returned.

    Raises:
        InvalidSolution: another model or other images than the certificate names, or values of the wrong form.
        CheckFailed: the mask passes its budget, or the certificate says something that is not so.
    """
    network, pixels, classes = read_scoring_data(model, images, labels, ())
    # A layer without a mask was held; the digest says whether `choose_mask` was told so.
    if any(layer in solution.masks for layer in network.units):
        network = network.holding([layer for layer in network.units if layer not in solution.masks])
    claimed = solution.certificate
    if claimed.model_hash != network.digest() or claimed.images_hash != images_digest(pixels, classes):
        raise InvalidSolution("the masks are of another model or of other images than the certificate names")
    return verify_mask(network, pixels, classes, solution)


def verify_mask(network: Network, pixels: Array, labels: Index, solution: MaskSolution) -> MaskVerdict:
    """`check_mask` for a lowered network and flattened images.

    Args:
        network: the lowered network.
        pixels: [inputs, images].
        labels: [images].
        solution: to be checked.

    Raises:
        InvalidSolution: values of the wrong form.
        CheckFailed: what does not hold, by name.
    """
    claimed, budget = solution.certificate, proved_budget(solution.certificate)
    settings = _settings(solution)
    base, chosen = (_stacked(network, each) for each in (solution.base, solution.masks))
    if not admits(network, budget, base, chosen):
        raise CheckFailed("the masks pass the budget of their certificate; the solution was altered")
    expansion = expand(network, pixels, base)
    loss = make_loss(settings.loss, expansion.dense, labels, settings.temperature)
    problem = InnerProblem.of(expansion, loss, settings.refit_weight)
    objective = objective_at(problem, chosen, solution.changes)
    _agree("objective", claimed.objective, objective)
    bound = prove_masks(problem, budget, solution)
    slack = TOLERANCE * max(1.0, abs(objective))
    if claimed.bound > bound + slack:
        raise CheckFailed(f"the certificate says bound {claimed.bound:.9g}, its duals prove {bound:.9g}")
    if claimed.bound > objective + slack:
        raise CheckFailed(f"the bound {claimed.bound:.9g} exceeds the objective {objective:.9g}; the proof is wrong")
    gap = relative_to(objective, claimed.bound)
    _agree("gap", claimed.gap, gap)
    if claimed.status == "optimal" and gap > settings.gap + TOLERANCE:
        raise CheckFailed(f"the certificate says optimal at a gap of {gap:.3g}, {settings.gap:g} was asked for")
    widths = {layer: int(np.sum(mask)) for layer, mask in solution.masks.items()}
    if dict(claimed.units) != widths:
        raise CheckFailed(f"the certificate says {dict(claimed.units)} kept units, the masks keep {widths}")
    return MaskVerdict(objective, bound, gap, len(solution.proof.leaves))


def size_of(objective: float) -> float:
    """|objective|, or `SMALL` where that is more: gaps and tolerances are relative to it."""
    return max(abs(objective), SMALL)


def relative_to(objective: float, bound: float) -> float:
    """(objective - bound) / max(|objective|, SMALL), at least 0.

    Args:
        objective: of a mask.
        bound: of every mask.
    """
    return max(0.0, objective - bound) / size_of(objective)


def _settings(solution: MaskSolution) -> MaskSettings:
    try:
        return MaskSettings.from_dict(solution.certificate.settings)
    except (InvalidSetting, KeyError, TypeError, ValueError) as error:
        raise InvalidSolution(
            f"the settings in the certificate are damaged ({error}); choose the masks again"
        ) from error


def _stacked(network: Network, masks: Any) -> Array:
    shapes = {name: np.shape(mask) for name, mask in masks.items()}
    if shapes != {name: (units,) for name, units in network.units.items()}:
        raise InvalidSolution(f"the masks have shapes {shapes}, the network has {dict(network.units)} units")
    return network.stack({name: np.asarray(mask, dtype=float) for name, mask in masks.items()})


def objective_at(problem: InnerProblem, chosen: Array, changes: Any) -> float:
    """The program's objective at a mask with given changes of the surviving weights.

    Args:
        problem: expansion, loss and refit weight.
        chosen: the mask, [units].
        changes: U by the name of the reading node, [outputs, columns].

    Raises:
        InvalidSolution: changes of another shape.
        CheckFailed: a removed unit's weights change.
    """
    expansion = problem.expansion
    logits, ridge = expansion.logits_at(chosen), 0.0
    if math.isfinite(problem.refit_weight):
        for reading in expansion.readings:
            change = np.asarray(changes.get(reading.name, np.zeros(0)), dtype=float)
            if change.shape != reading.weight.shape:
                raise InvalidSolution(f"the changes of {reading.name} have shape {change.shape}; choose again")
            if np.any(change[:, reading.kept(chosen) == 0]):
                raise CheckFailed(f"weights of {reading.name} change that read removed units; the solution was altered")
            logits = logits + reading.moved(change)
            ridge += problem.refit_weight * float((change**2).sum())
    return float(problem.loss.values(logits).mean()) + ridge


def prove_masks(problem: InnerProblem, budget: MaskBudget, solution: MaskSolution) -> float:
    """The bound of every mask within the budget that a solution's duals prove.

    Args:
        problem: expansion, loss and refit weight.
        budget: of the masks.
        solution: of which the duals and the leaves are read.

    Raises:
        InvalidSolution: duals of another form, or leaves that do not cover every mask.
    """
    expansion = problem.expansion
    duals, leaves = solution.proof.duals, solution.proof.leaves
    if duals.shape[1:] != expansion.logits.shape or not np.isfinite(duals).all():
        raise InvalidSolution(f"the proof's duals have shape {duals.shape}; choose the masks again")
    require_cover([leaf.path for leaf in leaves])
    cuts = [dual_cut(expansion, problem.loss, each, problem.refit_weight) for each in duals]
    return min(bound_of_leaf(expansion, budget, leaf, cuts) for leaf in leaves)


def bound_of_leaf(expansion: Expansion, budget: MaskBudget, leaf: Leaf, cuts: Sequence[DualCut]) -> float:
    """What a leaf's duals prove of the masks in its region.

    Args:
        expansion: whose units are chosen.
        budget: of the masks.
        leaf: path and duals.
        cuts: of the proof.

    Raises:
        InvalidSolution: duals of another shape or sign.
    """
    region = Region.whole(expansion.network)
    for step in leaf.path:
        region = region.after(step)
    rows = rows_of(expansion.network, budget, expansion.mask, region)
    if leaf.weights.shape != (len(cuts),) or leaf.rows.shape != rows.most.shape:
        raise InvalidSolution("a leaf's duals are not one per cut and row; choose the masks again")
    if not (np.all(leaf.weights >= 0) and np.all(leaf.rows >= 0) and leaf.weights.sum() > 0):
        raise InvalidSolution("a leaf's duals are below 0 or nothing; choose the masks again")
    return lagrangian_of_region(cuts, leaf.weights, rows, leaf.rows, region)


def lagrangian_of_region(cuts: Sequence[DualCut], weights: Array, rows: Rows, duals: Array, region: Region) -> float:
    """The bound that duals of cuts and rows prove of a region.

    Args:
        cuts: of the objective.
        weights: at least 0; scaled to 1 in all.
        rows: that every mask of the region keeps.
        duals: of the rows, at least 0.
        region: bounds of the scores.
    """
    if np.any(region.lower > region.upper) or np.any(region.least > region.most):
        return math.inf
    share = weights / weights.sum()
    used = np.flatnonzero(share).tolist()
    constant = sum(share[k] * cuts[k].constant for k in used)
    tilt = sum((share[k] * cuts[k].slope for k in used), np.zeros(len(region.lower))) + rows.matrix.T @ duals
    return float(constant - duals @ rows.most + np.minimum(tilt * region.lower, tilt * region.upper).sum())


def require_cover(paths: Sequence[tuple[Branch, ...]]) -> None:
    """Raise InvalidSolution unless branches are all taken on both sides, so that the leaves hold every mask."""
    if not paths:
        raise InvalidSolution("the proof's leaves do not cover every mask; choose the masks again")
    if len(paths) == 1 and not paths[0]:
        return
    heads = {path[0]._replace(above=False) for path in paths if path}
    if len(heads) != 1 or not all(paths):
        raise InvalidSolution("the proof's leaves are no branching of the masks; choose the masks again")
    for above in (False, True):
        require_cover([path[1:] for path in paths if path[0].above is above])


def _agree(what: str, claimed: float, found: float) -> None:
    if not (math.isfinite(claimed) and abs(claimed - found) <= TOLERANCE * max(1.0, abs(found))):
        raise CheckFailed(
            f"the certificate says {what} {claimed:.9g}, the check finds {found:.9g}; the solution was altered"
        )
