"""The independent check of a mask solution: the objective at the mask, and the bound of every mask, without a solver.

Not checked, for nothing is proved by them: the certificate's relaxation, relaxed_objective, rounds, nodes, cuts,
seconds and solver, and the scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from formulation.deadline import NEVER, Deadline
from formulation.errors import CheckFailed, InvalidSolution
from formulation.masks.budgets import admits
from formulation.masks.checks.leaf_bounds import prove_masks
from formulation.masks.checks.mask_forms import proved_settings, require_solution, stacked
from formulation.masks.checks.mask_objective import objective_at, objectives_at, relative_to
from formulation.masks.inner_problem.dual_cuts import make_loss
from formulation.masks.inner_problem.expansion import expand
from formulation.masks.inner_problem.inner_refit import InnerProblem
from formulation.masks.inner_problem.joint_problem import JointProblem, MaskProblem
from formulation.masks.mask_solution import MaskSettings, MaskSolution, proved_budget
from formulation.network import Array, Index, Network
from formulation.scoring_data import images_digest, read_scoring_data

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
        InvalidSolution: no solution, another model or other images than the certificate names, or values of the wrong
            form.
        CheckFailed: the mask passes its budget, or the certificate says something that is not so.
    """
    require_solution(solution)
    if solution.certificate.over:
        raise InvalidSolution("the mask was chosen for several data sets; check it with check_joint_mask")
    labelled = proved_settings(solution).loss != "squared"
    network, pixels, classes = read_scoring_data(model, images, labels, (), labelled=labelled)
    # A layer without a mask was held; the digest says whether `choose_mask` was told so.
    if any(layer in solution.masks for layer in network.units):
        network = network.holding([layer for layer in network.units if layer not in solution.masks])
    claimed = solution.certificate
    if claimed.model_hash != network.digest():
        raise InvalidSolution("the masks are of another model than the certificate names (model_hash differs)")
    if claimed.images_hash != images_digest(pixels, classes):
        raise InvalidSolution(
            "the masks are of other images or labels, or in another order, than the certificate names (images_hash "
            "differs); give those, and a DataLoader that does not shuffle"
        )
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
    base, settings = stacked(network, solution.base), proved_settings(solution)
    return verify_problem(first_order(network, pixels, labels, base, settings), solution)


def first_order(
    network: Network, pixels: Array, labels: Index, mask: Array, settings: MaskSettings, deadline: Deadline = NEVER
) -> InnerProblem:
    """The mask program without its budget, for a network that is taken to first order around a mask.

    Args:
        network: the lowered network.
        pixels: [inputs, images].
        labels: [images].
        mask: m, the mask so far, [units].
        settings: the loss and the refit weight.
        deadline: no batch is begun behind it.

    Raises:
        TimeLimitReached: the deadline came first.
    """
    expansion = expand(network, pixels, mask, deadline)
    loss = make_loss(settings.loss, expansion.dense, labels, settings.temperature)
    return InnerProblem.of(expansion, loss, settings.refit_weight)


def verify_problem(problem: MaskProblem, solution: MaskSolution) -> MaskVerdict:
    """`check_mask` for a network that was taken to first order around the solution's mask so far.

    Args:
        problem: the program without its budget.
        solution: to be checked.

    Raises:
        InvalidSolution: values of the wrong form.
        CheckFailed: what does not hold, by name.
    """
    claimed, budget = solution.certificate, proved_budget(solution.certificate)
    settings, network = proved_settings(solution), problem.network
    chosen = stacked(network, solution.masks)
    if not admits(network, budget, problem.mask, chosen):
        raise CheckFailed("the masks pass the budget of their certificate; the solution was altered")
    objective = objective_at(problem, chosen, solution.changes)
    _agree("objective", claimed.objective, objective)
    bound = prove_masks(problem, budget, solution)
    slack = TOLERANCE * max(1.0, abs(objective))
    if not (math.isfinite(claimed.bound) and claimed.bound <= bound + slack):
        raise CheckFailed(f"the certificate says bound {claimed.bound:.9g}, its duals prove {bound:.9g}")
    if not max(claimed.bound, bound) <= objective + slack:
        raise CheckFailed(
            f"the bound {max(claimed.bound, bound):.9g} exceeds the objective {objective:.9g}; the proof is wrong"
        )
    gap = relative_to(objective, claimed.bound)
    _agree("gap", claimed.gap, gap)
    if claimed.status == "optimal" and gap > settings.gap + TOLERANCE:
        raise CheckFailed(f"the certificate says optimal at a gap of {gap:.3g}, {settings.gap:g} was asked for")
    widths = {layer: int(np.sum(mask)) for layer, mask in solution.masks.items()}
    if dict(claimed.units) != widths:
        raise CheckFailed(f"the certificate says {dict(claimed.units)} kept units, the masks keep {widths}")
    _agree("unchanged_loss", claimed.unchanged_loss, problem.unchanged_loss(chosen))
    each: dict[str, float] = {}
    if isinstance(problem, JointProblem):
        each = dict(zip(problem.names, objectives_at(problem, chosen, solution.changes), strict=True))
    if set(claimed.objectives) != set(each):
        raise CheckFailed(f"the certificate has objectives of {sorted(claimed.objectives)}, not of {sorted(each)}")
    for name, found in each.items():
        _agree(f"objective of {name}", claimed.objectives[name], found)
    return MaskVerdict(objective, bound, gap, len(solution.proof.leaves))


def _agree(what: str, claimed: float, found: float) -> None:
    if not (math.isfinite(claimed) and abs(claimed - found) <= TOLERANCE * max(1.0, abs(found))):
        raise CheckFailed(
            f"the certificate says {what} {claimed:.9g}, the check finds {found:.9g}; the solution was altered"
        )
