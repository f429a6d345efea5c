"""The public verb: images in, scores with a checked certificate out."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from formulation.checker import verify
from formulation.errors import SolverFailed, TimeLimitReached
from formulation.images import images_digest, read, require_fit
from formulation.network import Affine, Array, Index, Network
from formulation.outcome import Outcome
from formulation.reduction import Reduction, reduce
from formulation.search import Progress
from formulation.settings import ScoreSettings
from formulation.solution import Certificate, Solution, Undecided
from formulation.solve import solve
from formulation.solvers import require_solvable
from formulation.stored import lowered

TINY, HUGE = 1e-6, 1e6  # a layer's largest weight outside of these is worth a note


def score(
    model: Any, images: Any, labels: Any, settings: ScoreSettings, *, progress: Progress | None = None
) -> Solution:
    """Score every unit of a trained network on a scoring set: 1 = critical, 0 = removable.

    The mixed-integer program of the settings is lowered, reduced, solved by outer approximation and checked by an
    independent replay in float64.

    Args:
        model: a torch module in eval mode that takes images in pixel units and returns logits.
        images: [n, ...] pixels.
        labels: [n] whole numbers.
        settings: see `ScoreSettings`.
        progress: called with every round.

    Returns:
        One score in [0, 1] per unit of every Linear, Conv1d and Conv2d layer that one ReLU follows, by its name.

    Raises:
        InvalidModel, InvalidImages, UnsupportedLayer, SolverUnavailable: before any work.
        TimeLimitReached: the time limit passed with no scores better than "everything is critical".
        SolverFailed, CheckFailed: never scores in silence.
    """
    return _confirmed(*_proposed(model, images, labels, settings, progress))


def propose(
    model: Any, images: Any, labels: Any, settings: ScoreSettings, *, progress: Progress | None = None
) -> Solution:
    """`score` without its last step, the check: what is worth keeping while it may still be interrupted.

    The certificate says that nothing has been checked: `confirm` it before use. Raises as `score` does, but for
    CheckFailed.
    """
    return _proposed(model, images, labels, settings, progress)[-1]


def confirm(model: Any, images: Any, labels: Any, solution: Solution) -> Solution:
    """A proposed or stored solution with a certificate that says that it holds; raises as `check` does."""
    return _confirmed(*lowered(model, images, labels, solution), solution)


def _confirmed(network: Network, pixels: Array, classes: Index, solution: Solution) -> Solution:
    started = time.perf_counter()
    verdict = verify(network, pixels, classes, solution)
    seconds = solution.certificate.seconds + time.perf_counter() - started
    certificate = replace(solution.certificate, checked=True, largest_residual=verdict.largest_residual)
    return replace(solution, certificate=replace(certificate, seconds=seconds))


def _proposed(
    model: Any, images: Any, labels: Any, settings: ScoreSettings, progress: Progress | None
) -> tuple[Network, Array, Index, Solution]:
    started = time.perf_counter()
    require_solvable(settings)
    network, pixels, classes = read(model, images, labels, settings.held)
    require_fit(network, pixels, classes, settings)
    reduction = reduce(network, pixels, classes, settings)
    left = settings.time_limit - (time.perf_counter() - started)
    if left <= 0:
        raise TimeLimitReached(_too_short(settings.time_limit))
    extremes = _magnitudes(network)
    try:
        outcome = solve(reduction, replace(settings, time_limit=left), progress)
    except SolverFailed as failure:
        if extremes is None:
            raise
        raise type(failure)(f"{failure}; {extremes}") from failure
    if outcome.status != "optimal" and not outcome.improved:
        if outcome.status == "time_limit":
            raise TimeLimitReached(_too_short(settings.time_limit))
        raise SolverFailed(
            f"{outcome.solver} ended by {outcome.status} after {len(outcome.rounds)} rounds before any scores better "
            "than 'every unit is critical' were found; raise max_rounds or try other solver_options"
        )
    solution = _solution(reduction, outcome, settings, images_digest(pixels, classes), started)
    if extremes is not None:
        noted = replace(solution.certificate, notes=(*solution.certificate.notes, extremes))
        solution = replace(solution, certificate=noted)
    return network, pixels, classes, solution


def _magnitudes(network: Network) -> str | None:
    """What to say of layers whose weights are all tiny or partly huge: the solvers' tolerances are absolute."""
    found = []
    for node in network.nodes:
        if isinstance(node.op, Affine):
            weight = node.op.weight if isinstance(node.op.weight, np.ndarray) else node.op.weight.data
            largest = float(np.abs(weight).max(initial=0.0))
            if largest and not TINY <= largest <= HUGE:
                found.append(f"'{node.name}' up to {largest:.1e}")
    if not found:
        return None
    return (
        f"the weights span extreme magnitudes ({', '.join(found)}), solvers work to tolerances of about 1e-9; scale a "
        "unit's weights and bias by c > 0 and its outgoing weights by 1 / c, which changes no logit"
    )


def _too_short(limit: float) -> str:
    return (
        f"the time limit of {limit:g} s passed before any scores better than 'every unit is critical' were found; "
        "raise time_limit, use fewer images, or a gate with fewer undecided activations"
    )


def _solution(
    reduction: Reduction, outcome: Outcome, settings: ScoreSettings, images_hash: str, started: float
) -> Solution:
    network, best = reduction.network, outcome.incumbent
    scores = network.unstack(np.clip(best.point[: reduction.scores], 0.0, 1.0))
    undecided = _undecided(reduction, best.point)
    certificate = Certificate(
        status=outcome.status,
        objective=best.objective,
        bound=outcome.bound,
        gap=outcome.gap,
        cross_entropy=best.cross_entropy,
        sparsity=best.sparsity,
        relaxation=None if outcome.relaxed is None else outcome.relaxed.objective,
        proved_bound=None if outcome.lagrangian is None else outcome.lagrangian.bound,
        relaxed_change=_change(network, outcome),
        rounds=len(outcome.rounds),
        seconds=time.perf_counter() - started,
        solver=outcome.solver,
        solver_version=outcome.solver_version,
        model_hash=network.digest(),
        images_hash=images_hash,
        images=len(reduction.labels),
        columns=reduction.columns,
        rows=len(outcome.rows),
        undecided=reduction.undecided,
        settings=settings.to_dict(),
        notes=_notes(outcome, settings),
    )
    costs = {} if outcome.lagrangian is None else network.unstack(outcome.lagrangian.gradient[: reduction.scores])
    return Solution(scores, certificate, outcome.rounds, undecided, costs, outcome.proof)


def _change(network: Network, outcome: Outcome) -> dict[str, float] | None:
    """How far integer rounds moved a layer's scores from the relaxed ones at most."""
    if outcome.relaxed is None:
        return None
    count = network.score_count
    moved = network.unstack(np.abs(outcome.incumbent.point[:count] - outcome.relaxed.point[:count]))
    return {name: float(values.max()) for name, values in moved.items()}


def _undecided(reduction: Reduction, point: Array) -> dict[str, Undecided]:
    found: dict[str, list[tuple[np.ndarray, Array, Array]]] = {}
    for part in reduction.parts:
        for name, waiting in part.waiting.items():
            where = np.stack([waiting.activation, waiting.image + part.first], axis=1)
            phase = np.where(waiting.phase >= 0, point[waiting.phase], 0.0)
            found.setdefault(name, []).append((where, point[waiting.value], phase))
    return {
        name: Undecided(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        for name, parts in found.items()
    }


def _notes(outcome: Outcome, settings: ScoreSettings) -> tuple[str, ...]:
    notes = []
    if settings.gate == "exact" and settings.relax:
        notes.append(
            "the relaxation of 'exact' is degenerate: nearly all scores fall to 0; asked for by allow_degenerate"
        )
    if outcome.status != "optimal":
        notes.append(
            f"ended by {outcome.status} at a relative gap of {outcome.gap:.3g}: the scores are not proved optimal"
        )
    return tuple(notes)
