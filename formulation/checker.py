"""The independent check: what a certificate claims is computed again, without a solver.

The residual of every constraint comes from `replay`, which shares no gate or reduction code with whatever found the
solution, the objective from the replay's logits and by sorting the layer terms. The bound comes from the multipliers by
`proof`, which is arithmetic on the reduced program.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from formulation.errors import CheckFailed
from formulation.images import require_fit
from formulation.loss import cross_entropy
from formulation.network import Array, Index, Network
from formulation.reduction import Reduction, reduce
from formulation.replay import replay
from formulation.solution import Solution
from formulation.sparsity import sparsity
from formulation.stored import lowered, stored_lagrangian, stored_scores, stored_settings

TOLERANCE = 1e-6  # of a residual, relative to the activation's own bound where that exceeds 1; and of the objective


@dataclass(frozen=True)
class Verdict:
    """What the replay measured: the largest residual and where, the objective again, and the gap."""

    largest_residual: float
    where: str
    objective: float
    bound: float
    gap: float
    images: int


def check(model: Any, images: Any, labels: Any, solution: Solution) -> Verdict:
    """Check a stored solution against the model and the images it claims to be about.

    Raises:
        InvalidSolution: another model or other images than the certificate names, or values of the wrong form.
        CheckFailed: a constraint is violated, or the objective, one of its parts, bound or gap is not what the
            certificate says.
    """
    return verify(*lowered(model, images, labels, solution), solution)


def verify(network: Network, pixels: Array, labels: Index, solution: Solution) -> Verdict:
    """`check` for a lowered network and flattened images."""
    claimed = solution.certificate
    settings = stored_settings(claimed)
    require_fit(network, pixels, labels, settings)
    scores = stored_scores(network, solution)
    logits, residuals = replay(network, pixels, scores, solution.undecided, settings)
    where, largest = max(residuals, key=lambda item: np.inf if np.isnan(item[1]) else item[1])
    if not largest <= TOLERANCE:
        raise CheckFailed(
            f"the solution violates {where} by {largest:.3g} (tolerance {TOLERANCE:g}); do not use these scores"
        )
    loss = float(cross_entropy(logits, labels).mean())
    term = sparsity(network, network.stack(scores), settings.layer_weight)
    objective = settings.loss_weight * loss + term
    gap = max(0.0, objective - claimed.bound) / max(1.0, abs(objective))
    slack = TOLERANCE * max(1.0, abs(objective))
    _agree("objective", claimed.objective, objective, slack)
    _agree("cross-entropy", claimed.cross_entropy, loss, slack)
    _agree("sparsity", claimed.sparsity, term, slack)
    _agree("gap", claimed.gap, gap, slack)
    if not claimed.bound <= objective + slack:
        raise CheckFailed(
            f"the certificate's bound {claimed.bound:.9g} exceeds the objective {objective:.9g}; the solver was wrong"
        )
    _check_proof(reduce(network, pixels, labels, settings), solution, objective)
    if claimed.status == "optimal" and not gap <= settings.gap + slack:
        raise CheckFailed(f"the certificate says optimal at a gap of {gap:.3g}, but {settings.gap:g} was asked for")
    return Verdict(largest, where, objective, claimed.bound, gap, pixels.shape[1])


def _check_proof(reduction: Reduction, solution: Solution, objective: float) -> None:
    """Compute again what the multipliers prove: all of a relaxed program's bound, part of an integer one's."""
    claimed, settings = solution.certificate, reduction.settings
    sizes = {"images": reduction.images, "columns": reduction.columns, "undecided": reduction.undecided}
    for what, found in sizes.items():
        if getattr(claimed, what) != found:
            raise CheckFailed(f"the certificate says {getattr(claimed, what)} {what}, the program has {found}")
    slack = TOLERANCE * max(1.0, abs(objective))
    proved = sparsity(reduction.network, np.zeros(reduction.scores), settings.layer_weight)  # needs no proof
    if claimed.proved_bound is not None:
        if solution.proof is None:
            raise CheckFailed("the certificate names a proved bound and the solution holds no multipliers; score again")
        made = stored_lagrangian(reduction, solution.proof)
        proved = max(proved, made.bound)
        _agree("proved bound", claimed.proved_bound, made.bound, slack)
        costs = reduction.network.unstack(made.gradient[: reduction.scores])
        if any(
            not np.allclose(solution.reduced_costs.get(k, np.nan), v, rtol=1e-6, atol=1e-6) for k, v in costs.items()
        ):
            raise CheckFailed("the reduced costs are not those of the multipliers; the solution was altered")
    for what, value in (("objective", objective), ("relaxation", claimed.relaxation)):
        if value is not None and not proved <= value + slack:
            raise CheckFailed(
                f"the {what} {value:.9g} lies below the bound {proved:.9g} that the multipliers prove; "
                "the scores are not of this program"
            )
    whole = settings.integer_scores or (not settings.relax and reduction.undecided > 0)
    if not whole and not claimed.bound <= proved + slack:
        raise CheckFailed(
            f"the certificate's bound {claimed.bound:.9g} is more than its multipliers prove, {proved:.9g}; "
            "the solution was altered or the solver was wrong"
        )


def _agree(what: str, claimed: float, found: float, slack: float) -> None:
    if not (np.isfinite(claimed) and abs(claimed - found) <= slack):
        raise CheckFailed(
            f"the certificate says {what} {claimed:.9g}, the replay finds {found:.9g}; "
            "the solution was altered or the solver was wrong"
        )
