"""The public verb: images in, scores with a checked certificate out."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from formulation.deadline import Aftermath, Deadline
from formulation.errors import SolverCrashed, SolverFailed, TimeLimitReached
from formulation.network import Affine, Array, Labels, Network, Unstable
from formulation.relaxation import Reduction, reduce, with_jacobians
from formulation.score_settings import ScoreSettings, require_settings
from formulation.scoring_data import images_digest, read_program_data, require_fit
from formulation.solution import Certificate, Solution
from formulation.solve import SearchProgress, SolveResult, import_linopy, solve
from formulation.solve.solvers import require_solvable
from formulation.verify import SURVIVOR, lowered, magnitudes, notes_of, verify

# What the check takes, in reductions, passes forwards and dual bounds of the search; measured, see docs/limits.md.
SLACK = 1.3
SAMPLE = 2**22  # bytes
CHECK_REDUCTIONS, CHECK_PASSES, CHECK_PROOFS = 2 * SLACK, 3 * SLACK, SLACK
# The same in Jacobians, where they are held: the search then makes no pass that could be measured.
CHECK_JACOBIANS = 2.0


def score(
    model: Any, images: Any, labels: Any, settings: ScoreSettings, *, progress: SearchProgress | None = None
) -> Solution:
    """Score every unit of a trained network on a scoring set: 1 = critical, 0 = removable.

    The mixed-integer program of the settings is lowered, reduced, solved by outer approximation and checked by an
    independent forward pass in float64.

    Args:
        model: a torch module in eval mode that takes images in pixel units and returns logits.
        images: [n, ...] pixels; or a DataLoader or any iterable of (images, labels), read whole.
        labels: [n] whole numbers; None where they are beside the images. Where the loss is `squared`: targets, real
            numbers [n] or [n, outputs].
        settings: see `ScoreSettings`.
        progress: called with every round.

    Returns:
        One score in [0, 1] per unit of every Linear, Conv1d and Conv2d layer whose units can be followed, by its name;
        of units that sums or depthwise convolutions tie together by that of the first layer.

    Raises:
        InvalidModel, InvalidImages, UnsupportedLayer, SolverUnavailable: before any work.
        TimeLimitReached: the time limit passed with no scores better than "everything is critical".
        SolverCrashed: the solver of an integer program died; its `relaxation` is the relaxation's solution.
        SolverFailed, CheckFailed: never scores in silence.
    """
    return _scored(model, images, labels, settings, progress, confirmed=True)


def propose(
    model: Any, images: Any, labels: Any, settings: ScoreSettings, *, progress: SearchProgress | None = None
) -> Solution:
    """Score as `score` does, without its last step, the check: what is worth keeping while it may still be interrupted.

    The certificate says that nothing has been checked: `confirm` it before use, for which the time limit leaves time.

    Args:
        model, images, labels, settings, progress: as for `score`.

    Returns:
        What `score` returns, but for the certificate.

    Raises:
        InvalidModel, InvalidImages, UnsupportedLayer, SolverUnavailable: before any work.
        TimeLimitReached, SolverCrashed, SolverFailed: as `score`.
    """
    return _scored(model, images, labels, settings, progress, confirmed=False)


def confirm(model: Any, images: Any, labels: Any, solution: Solution) -> Solution:
    """A proposed or stored solution with a certificate that says that it holds.

    Args:
        model, images, labels: as `score` was given them.
        solution: what `propose` returned or `Solution.load` read.

    Raises:
        InvalidSolution, CheckFailed: as `check`.
    """
    return _confirmed(*lowered(model, images, labels, solution), solution)


def _confirmed(network: Network, pixels: Array, classes: Labels, solution: Solution) -> Solution:
    started = time.perf_counter()
    verdict = verify(network, pixels, classes, solution)
    seconds = solution.certificate.seconds + time.perf_counter() - started
    certificate = replace(solution.certificate, checked=True, largest_residual=verdict.largest_residual)
    return replace(solution, certificate=replace(certificate, seconds=seconds))


@dataclass(frozen=True, eq=False)
class _Call:
    """A score call whose scoring set has been reduced.

    Attributes:
        started: on the clock `time.perf_counter`.
        hashes: of the network, and of images and labels.
        check: what the check will take, apart from passes.
        again: what reading the network again will take.
    """

    settings: ScoreSettings
    reduction: Reduction
    deadline: Deadline
    started: float
    hashes: tuple[str, str]
    check: float
    again: float


def _begun(model: Any, images: Any, labels: Any, settings: ScoreSettings) -> _Call:
    import_linopy()
    started = time.perf_counter()
    require_settings(settings)
    deadline = Deadline.after(settings.time_limit)
    require_solvable(settings)
    reading = time.perf_counter()
    network, pixels, classes = read_program_data(model, images, labels, settings, deadline)
    require_fit(network, pixels, classes, settings)
    deadline.require("the digest of the network", _digest_seconds(network))
    hashes = network.digest(), images_digest(pixels, classes)
    reducing = time.perf_counter()
    reduction = reduce(network, pixels, classes, settings, deadline=deadline)
    expanding = time.perf_counter()
    check = CHECK_REDUCTIONS * (expanding - reducing)
    reduction = with_jacobians(reduction, deadline=deadline)
    if settings.gate == "linear":
        check += CHECK_JACOBIANS * (time.perf_counter() - expanding)
    return _Call(settings, reduction, deadline, started, hashes, check, reducing - reading)


def _scored(
    model: Any, images: Any, labels: Any, settings: ScoreSettings, progress: SearchProgress | None, *, confirmed: bool
) -> Solution:
    call = _begun(model, images, labels, settings)
    reduction, network = call.reduction, call.reduction.network

    def finished(outcome: SolveResult, asked: ScoreSettings, *notes: str) -> Solution:
        solution = _solution(call, outcome, asked)
        told = (*solution.certificate.notes, *notes)
        solution = replace(solution, certificate=replace(solution.certificate, notes=told))
        return _confirmed(network, reduction.pixels, reduction.labels, solution) if confirmed else solution

    after = Aftermath(call.check + (0.0 if confirmed else SLACK * call.again), CHECK_PASSES, CHECK_PROOFS)
    try:
        outcome = solve(reduction, settings, progress, call.deadline, after)
    except SolverCrashed as crash:
        raise _surviving(crash, finished, settings) from crash
    except TimeLimitReached:
        raise
    except SolverFailed as failure:
        if (extremes := magnitudes(network)) is None:
            raise
        raise type(failure)(f"{failure}; {extremes}") from failure
    if outcome.status != "optimal" and not outcome.improved:
        if outcome.status == "time_limit":
            raise TimeLimitReached(_too_short(settings.time_limit))
        raise SolverFailed(
            f"{outcome.solver} ended by {outcome.status} after {len(outcome.rounds)} rounds before any scores better "
            "than 'every unit is critical' were found; raise max_rounds or try other solver_options"
        )
    return finished(outcome, settings)


def _surviving(
    crash: SolverCrashed, finished: Callable[[SolveResult, ScoreSettings, str], Solution], settings: ScoreSettings
) -> SolverCrashed:
    """The crash with what survives it: the relaxation, as if it had been asked for."""
    if not isinstance(crash.relaxation, SolveResult):
        return crash
    degenerate = settings.allow_degenerate or settings.gate == "exact"
    relaxed = replace(settings, relax=True, integer_scores=False, allow_degenerate=degenerate)
    survivor = finished(crash.relaxation, relaxed, f"{SURVIVOR}{crash}")
    made = SolverCrashed(
        f"{crash}; the relaxation survives with objective {survivor.certificate.objective:.6g} and bound "
        f"{survivor.certificate.bound:.6g}: relax=True gives it"
    )
    made.relaxation = survivor
    return made


def _digest_seconds(network: Network) -> float:
    """About how long the network's digest takes: its bytes, at the speed of a few of them."""
    weights = [node.op.weight for node in network.nodes if isinstance(node.op, Affine)]
    # a sparse matrix has a whole number of four bytes or more beside each value
    size = sum(weight.nbytes if isinstance(weight, np.ndarray) else 12 * weight.nnz for weight in weights)
    started = time.perf_counter()
    hashlib.sha256(bytes(SAMPLE)).digest()
    return size / SAMPLE * (time.perf_counter() - started)


def _too_short(limit: float) -> str:
    return (
        f"the time limit of {limit:g} s passed before any scores better than 'every unit is critical' were found; "
        "raise time_limit, use fewer images, or a gate with fewer unstable activations"
    )


def _solution(call: _Call, outcome: SolveResult, settings: ScoreSettings) -> Solution:
    reduction, (model_hash, images_hash) = call.reduction, call.hashes
    network, best = reduction.network, outcome.incumbent
    scores = network.unstack(np.clip(best.point[: reduction.scores], 0.0, 1.0))
    unstable = _unstable(reduction, best.point)
    certificate = Certificate(
        status=outcome.status,
        objective=best.objective,
        bound=outcome.bound,
        gap=outcome.gap,
        cross_entropy=best.loss,
        sparsity=best.sparsity,
        relaxation=None if outcome.relaxed is None else outcome.relaxed.objective,
        proved_bound=None if outcome.lagrangian is None else outcome.lagrangian.bound,
        relaxed_change=_change(network, outcome),
        rounds=len(outcome.rounds),
        seconds=time.perf_counter() - call.started,
        solver=outcome.solver,
        solver_version=outcome.solver_version,
        model_hash=model_hash,
        images_hash=images_hash,
        images=len(reduction.labels),
        columns=reduction.columns,
        cuts=len(outcome.cuts),
        unstable=reduction.unstable,
        settings=settings.to_dict(),
        notes=notes_of(network, settings, outcome.status, outcome.gap),
    )
    costs = {} if outcome.lagrangian is None else network.unstack(outcome.lagrangian.gradient[: reduction.scores])
    return Solution(scores, certificate, outcome.rounds, unstable, costs, outcome.dual_bound)


def _change(network: Network, outcome: SolveResult) -> dict[str, float] | None:
    """How far integer rounds moved a layer's scores from the relaxed ones at most."""
    if outcome.relaxed is None:
        return None
    count = network.score_count
    moved = network.unstack(np.abs(outcome.incumbent.point[:count] - outcome.relaxed.point[:count]))
    return {name: float(values.max()) for name, values in moved.items()}


def _unstable(reduction: Reduction, point: Array) -> dict[str, Unstable]:
    found: dict[str, list[Unstable]] = {}
    if not reduction.unstable:  # batches may have to be made again
        return {}
    for batch in reduction.batches:
        for name, columns in batch.unstable.items():
            found.setdefault(name, []).append(columns.at(point, batch.first))
    return {name: Unstable.joined(pieces) for name, pieces in found.items()}
