"""The independent check: what a certificate claims is computed again, without a solver.

The residual of every constraint comes from `residuals`, which shares no gate or reduction code with whatever found the
solution, the objective from the logits of its forward pass and by sorting the layer terms. The bound comes from the
duals by `dual_bound`, arithmetic on the reduced program, and on request by `exact_bound`, whose roundings cannot lift
it. What is left of the certificate is compared with itself and its rounds by `claims`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from formulation.duality import exact_trivial_bound
from formulation.errors import CheckFailed, InvalidSolution
from formulation.network import Array, Labels, Network
from formulation.relaxation import Reduction, image_losses, reduce, sparsity
from formulation.score_settings import ScoreSettings
from formulation.scoring_data import require_fit
from formulation.solution import Certificate, Solution
from formulation.verify.claims import Facts, require_consistent
from formulation.verify.notes import notes_of
from formulation.verify.residuals import measure_residuals
from formulation.verify.stored_solution import (
    lowered,
    stored_exact_bound,
    stored_lagrangian,
    stored_scores,
    stored_settings,
)

TOLERANCE = 1e-6  # of a residual, relative to the activation's own bound where that exceeds 1; and of the objective
# Of what is computed again, relative to its terms' magnitude: another machine's sums round otherwise. The forward pass
# may fix phases otherwise than the program where bounds differ by rounding; a dual bound is the same arithmetic.
FIGURES, PROVED = 1e-8, 1e-10
EXACT_SHARE = 0.01  # of the gap asked for: what outward rounding may take off a bound, which deep networks need


@dataclass(frozen=True)
class Verdict:
    """What the check found.

    Attributes:
        largest_residual, where: the largest violation of a constraint, and of which.
        objective, bound, gap: computed again; the bound is the certificate's.
        status: of the certificate; anything but `optimal` leaves the gap open.
        proved_bound: what the duals prove of the relaxed program in float64, None where there are none.
        exact_bound: the same with every rounding counted against it, where it was asked for.
        unproved: what is the solver's word, in sentences.
    """

    largest_residual: float
    where: str
    objective: float
    bound: float
    gap: float
    images: int
    status: str
    proved_bound: float | None
    exact_bound: float | None
    unproved: tuple[str, ...]


def check(model: Any, images: Any, labels: Any, solution: Solution, *, exact: bool = False) -> Verdict:
    """Check a stored solution against the model and the images it claims to be about.

    Args:
        model, images, labels: as `score` was given them.
        solution: what `score` or `Solution.load` returned.
        exact: compute what the duals prove with outward rounding too, so that no sum in float64 can lift it.

    Raises:
        InvalidSolution: another model or other images than the certificate names, or values of the wrong form.
        CheckFailed: a constraint is violated, or the certificate says something that is not so; the message names it.
    """
    return verify(*lowered(model, images, labels, solution), solution, exact=exact)


def prove_bound(model: Any, images: Any, labels: Any, solution: Solution, *, exact: bool = False) -> float:
    """The lower bound on the relaxed program's optimum that a solution's duals prove.

    It needs the model, the images and the duals alone, and holds whatever they are.

    Args:
        model, images, labels: as `score` was given them.
        solution: of which the duals are read.
        exact: round outwards, so that the bound is one of the program with these float64 coefficients as real numbers;
            otherwise sums are float64, and off by what they round.

    Raises:
        InvalidSolution: as `check`, and where the solution holds no duals.
    """
    network, pixels, classes = lowered(model, images, labels, solution)
    settings = stored_settings(solution.certificate)
    require_fit(network, pixels, classes, settings)
    if solution.dual_bound is None:
        raise InvalidSolution("the solution holds no duals to prove a bound by; score again")
    reduction = reduce(network, pixels, classes, settings)
    if exact:
        return stored_exact_bound(reduction, solution.dual_bound)
    return stored_lagrangian(reduction, solution.dual_bound).bound


def verify(network: Network, pixels: Array, labels: Labels, solution: Solution, *, exact: bool = False) -> Verdict:
    """`check` for a lowered network and flattened images.

    Args:
        network: as lowered from the model.
        pixels: [inputs, images], in [0, 1].
        labels: [images], classes; or targets [images, outputs].
        solution: to be checked.
        exact: compute the bound with outward rounding too.

    Raises:
        InvalidSolution: what is stored does not fit the network, or is damaged.
        CheckFailed: a constraint is violated, or a claim of the certificate is not what is found.
    """
    claimed = solution.certificate
    settings = stored_settings(claimed)
    require_fit(network, pixels, labels, settings)
    scores = stored_scores(network, solution)
    logits, residuals = measure_residuals(network, pixels, scores, solution.unstable, settings)
    where, largest = max(residuals, key=lambda item: np.inf if np.isnan(item[1]) else item[1])
    if not largest <= TOLERANCE:
        raise CheckFailed(
            f"the solution violates {where} by {largest:.3g} (tolerance {TOLERANCE:g}); do not use these scores"
        )
    losses = image_losses(logits, labels, settings.loss)
    loss = float(losses.mean())
    term = sparsity(network, network.stack(scores), settings.layer_weight)
    objective = settings.objective(loss, term)
    gap = max(0.0, objective - claimed.bound) / max(1.0, abs(objective))
    scale = max(1.0, abs(objective), settings.loss_weight * _magnitude(logits, losses, settings))
    slack = FIGURES * scale
    _agree("objective", claimed.objective, objective, slack)
    name = "cross-entropy" if settings.loss == "cross_entropy" else "mean squared error"
    _agree(name, claimed.cross_entropy, loss, slack)
    _agree("sparsity", claimed.sparsity, term, slack)
    _agree("gap", claimed.gap, gap, slack)
    if claimed.largest_residual is not None:
        _agree("largest residual", claimed.largest_residual, largest, FIGURES)
    if not claimed.bound <= objective + TOLERANCE * max(1.0, abs(objective)):
        raise CheckFailed(
            f"the certificate's bound {claimed.bound:.9g} exceeds the objective {objective:.9g}; the solver was wrong"
        )
    reduction = reduce(network, pixels, labels, settings)
    _require_sizes(reduction, claimed)
    whole = settings.integer_scores or (not settings.relax and reduction.unstable > 0)
    trivial = sparsity(network, np.zeros(network.score_count), settings.layer_weight)
    notes = notes_of(network, settings, claimed.status, claimed.gap)
    require_consistent(solution, settings, Facts(whole, trivial, slack, notes, tuple(network.units)))
    _require_better_than_ones(network, pixels, labels, settings, claimed, slack)
    proved = _check_dual_bound(reduction, solution, max(objective, claimed.objective), PROVED * scale)
    certain = _check_exact(reduction, solution, PROVED * scale, whole=whole) if exact else None
    said = _unproved(claimed, max(trivial, trivial if proved is None else proved), whole=whole)
    return Verdict(
        largest, where, objective, claimed.bound, gap, pixels.shape[1], claimed.status, proved, certain, said
    )


def _magnitude(logits: Array, losses: Array, settings: ScoreSettings) -> float:
    """What the terms of an image's loss come to at most: logits, or their products with errors."""
    largest = float(np.abs(logits).max(initial=0.0))
    if settings.loss == "cross_entropy":
        return largest
    errors = float(np.sqrt(len(logits) * losses.max(initial=0.0)))
    return max(1.0, largest, errors) * errors


def _require_sizes(reduction: Reduction, claimed: Certificate) -> None:
    sizes = {"images": reduction.images, "columns": reduction.columns, "unstable": reduction.unstable}
    for what, found in sizes.items():
        if getattr(claimed, what) != found:
            raise CheckFailed(f"the certificate says {getattr(claimed, what)} {what}, the program has {found}")


def _require_better_than_ones(
    network: Network, pixels: Array, labels: Labels, settings: ScoreSettings, claimed: Certificate, slack: float
) -> None:
    """A call that ends by a limit returns scores only where they beat "every unit is critical"."""
    if claimed.status == "optimal":
        return
    loss = float(image_losses(network.evaluate(pixels), labels, settings.loss).mean())
    ones = settings.objective(loss, sparsity(network, np.ones(network.score_count), settings.layer_weight))
    if not claimed.objective < ones - slack:
        raise CheckFailed(
            f"the certificate says status {claimed.status}, but its scores are not better than 1 for every unit "
            f"({claimed.objective:.9g} against {ones:.9g}): no call returns such scores; the solution was altered"
        )


def _check_dual_bound(reduction: Reduction, solution: Solution, objective: float, slack: float) -> float | None:
    """Compute again what the duals prove: all of a relaxed program's bound, part of an integer one's."""
    claimed, settings = solution.certificate, reduction.settings
    proved = sparsity(reduction.network, np.zeros(reduction.scores), settings.layer_weight)  # needs no duals
    found = None
    if solution.dual_bound is not None:
        made = stored_lagrangian(reduction, solution.dual_bound)
        proved, found = max(proved, made.bound), made.bound
        assert claimed.proved_bound is not None, "`claims` has seen to it"
        _agree("proved bound", claimed.proved_bound, made.bound, slack)
        costs = reduction.network.unstack(made.gradient[: reduction.scores])
        if set(costs) != set(solution.reduced_costs) or not all(
            _close(solution.reduced_costs[layer], values) for layer, values in costs.items()
        ):
            raise CheckFailed("the reduced costs are not those of the duals; the solution was altered")
    allowed = TOLERANCE * max(1.0, abs(objective))
    for what, value in (("objective", objective), ("relaxation", claimed.relaxation)):
        if value is not None and not proved <= value + allowed:
            raise CheckFailed(
                f"the {what} {value:.9g} lies below the bound {proved:.9g} that the duals prove; "
                "the scores are not of this program"
            )
    return found


def _close(stored: Array, found: Array) -> bool:
    if np.shape(stored) != found.shape:
        return False
    allowed = FIGURES * max(1.0, float(np.abs(found).max(initial=0.0)))
    return bool(np.all(np.abs(stored - found) <= allowed))


def _check_exact(reduction: Reduction, solution: Solution, slack: float, *, whole: bool) -> float:
    """What the duals prove when every rounding counts against them; a claim above it is refused."""
    claimed = solution.certificate
    proved = exact_trivial_bound(reduction)
    if solution.dual_bound is not None:
        proved = max(proved, stored_exact_bound(reduction, solution.dual_bound))
    allowed = max(slack, EXACT_SHARE * reduction.settings.gap * max(1.0, abs(claimed.objective)))
    above = [("proved bound", claimed.proved_bound), ("bound", None if whole else claimed.bound)]
    for what, value in above:
        if value is not None and value > proved + allowed:
            raise CheckFailed(
                f"the certificate says {what} {value:.17g}, the duals prove {proved:.17g} with outward rounding; "
                "sums in float64 have lifted it"
            )
    return proved


def _unproved(claimed: Certificate, proved: float, *, whole: bool) -> tuple[str, ...]:
    """What nothing here proves, in sentences."""
    said = [
        "other scores with an objective within the gap may exist: the optimum's value is proved, not its scores",
        "solver version, seconds, cuts and the rounds before the last are the solver's word, compared with each other",
    ]
    if whole and claimed.bound > proved:
        said.append(
            f"the integer program's bound {claimed.bound:.9g} beyond its relaxation's, {proved:.9g}, is the solver's "
            "word, and so are the relaxation's objective and what integer rounds changed"
        )
    return tuple(said)


def _agree(what: str, claimed: float, found: float, slack: float) -> None:
    if not (np.isfinite(claimed) and abs(claimed - found) <= slack):
        raise CheckFailed(
            f"the certificate says {what} {claimed:.9g}, the forward pass finds {found:.9g}; "
            "the solution was altered or the solver was wrong"
        )
