"""Claims of a certificate against each other, its settings and its rounds: everything that needs no images.

A certificate repeats itself: the gap is a function of objective and bound, the objective one of its parts, the last
round says what the certificate says, and the notes follow from the status. Whoever alters one of them has to alter the
others, and those that the forward pass and the duals compute again cannot be altered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from formulation.errors import CheckFailed
from formulation.score_settings import ScoreSettings
from formulation.solution import Certificate, Round, Solution, relative_gap
from formulation.verify.notes import SURVIVOR

ROUNDING = 1e-13  # of a gap, a function of two figures that stand beside it
PATIENCE = 20  # rounds without progress after which a search counts as stalled; see `search`
IDLE_SHARE = 1e-3
LIMIT_SHARE = 0.1  # of the time limit: a step that would not fit is not begun, so a search may end well before it
UNPROVED = 2e-6  # of a bound, relative: how much of a solver's bound a dual bound may take back


@dataclass(frozen=True)
class Facts:
    """What a certificate's claims are compared with, computed from network, images and settings alone.

    Attributes:
        whole: the program has integer variables.
        trivial: the bound that needs no duals, the layer terms of all-zero scores.
        slack: absolute; by how much figures that are computed again may differ.
        notes: those that the certificate has to carry.
        layers: the scored layers.
    """

    whole: bool
    trivial: float
    slack: float
    notes: tuple[str, ...]
    layers: tuple[str, ...]


def require_consistent(solution: Solution, settings: ScoreSettings, facts: Facts) -> None:
    """Raise CheckFailed, naming the field, where a certificate contradicts itself, its settings or its rounds."""
    claimed = solution.certificate
    _exactly("objective", claimed.objective, _sum(claimed, settings), "its loss weight, cross-entropy and sparsity")
    gap = relative_gap(claimed.objective, claimed.bound)
    if not abs(claimed.gap - gap) <= ROUNDING:
        _exactly("gap", claimed.gap, gap, "its objective and bound")
    _exactly("solver", claimed.solver, settings.solver, "its settings")
    notes = tuple(claimed.notes)
    if settings.relax and notes and notes[-1].startswith(SURVIVOR):
        notes = notes[:-1]
    if notes != facts.notes:
        raise CheckFailed(
            f"the certificate's notes are not those of a program that ended as it says ({claimed.status}, gap "
            f"{claimed.gap:.3g}); the solution was altered"
        )
    _require_history(claimed, solution.rounds)
    _require_dual_bound(solution, settings, facts)
    _require_status(claimed, settings, solution.rounds)
    _require_phases(claimed, settings, solution.rounds, facts)
    if (claimed.largest_residual is not None) != claimed.checked:
        raise CheckFailed("the certificate's checked and largest residual contradict each other; it was altered")


def _sum(claimed: Certificate, settings: ScoreSettings) -> float:
    return settings.objective(claimed.cross_entropy, claimed.sparsity)


def _exactly(what: str, claimed: object, found: object, source: str) -> None:
    if claimed != found:
        raise CheckFailed(
            f"the certificate says {what} {_shown(claimed)}, {source} say {_shown(found)}; the solution was altered"
        )


def _shown(value: object) -> str:
    return repr(value) if not isinstance(value, float) else f"{value:.17g}"


def _require_history(claimed: Certificate, rounds: Sequence[Round]) -> None:
    """The rounds follow each other, and the last of them ends where the certificate does."""
    _exactly("rounds", claimed.rounds, len(rounds), "its history's rounds")
    if not rounds:
        raise CheckFailed("the certificate's history is empty: rounds 0; the solution was altered")
    last = rounds[-1]
    _exactly("objective", claimed.objective, last.objective, "its last round's figures")
    for place, each in enumerate(rounds):
        if each.index != place:
            raise CheckFailed(f"the history's round {place} has the index {each.index}; rounds were cut or altered")
        if not abs(each.gap - relative_gap(each.objective, each.bound)) <= ROUNDING:
            raise CheckFailed(f"the history's round {place} has a gap that its figures do not give; it was altered")
    for before, after in pairwise(rounds):
        if (before.phase, after.phase) == ("integer", "relaxation"):
            raise CheckFailed(f"the history's round {after.index} is of the relaxation after integer ones")
        for what in ("cuts", "seconds"):
            if getattr(after, what) < getattr(before, what):
                raise CheckFailed(f"the history's round {after.index} has fewer {what} than the one before; altered")
        if before.phase == after.phase and after.objective > before.objective:
            raise CheckFailed(f"the history's round {after.index} has a worse objective than the one before; altered")
        given_back = UNPROVED * max(1.0, abs(before.bound)) if after.phase == "relaxation" else 0.0
        if before.phase == after.phase and after.bound < before.bound - given_back:
            raise CheckFailed(f"the history's round {after.index} has a lower bound than the one before; altered")
    for what in ("cuts", "seconds"):
        if getattr(claimed, what) < getattr(last, what):
            raise CheckFailed(
                f"the certificate says {getattr(claimed, what):g} {what}, its last round {getattr(last, what):g}; "
                "the solution was altered"
            )


def _require_dual_bound(solution: Solution, settings: ScoreSettings, facts: Facts) -> None:
    """Duals, proved bound and reduced costs are there together or not at all."""
    claimed, relaxed = solution.certificate, _of_phase(solution.rounds, "relaxation")
    if claimed.proved_bound is not None and solution.dual_bound is None:
        raise CheckFailed("the certificate names a proved bound and the solution holds no duals; score again")
    if solution.dual_bound is not None and claimed.proved_bound is None:
        raise CheckFailed(
            f"the certificate says bound {claimed.bound:.9g} and names no proved bound: more than its duals "
            "prove as it stands; it was altered"
        )
    if solution.dual_bound is None and solution.reduced_costs:
        raise CheckFailed("the solution holds reduced costs and no duals that give them; it was altered")
    if solution.dual_bound is None and not facts.whole and claimed.bound > facts.trivial + facts.slack:
        raise CheckFailed(
            f"the certificate's bound {claimed.bound:.9g} is more than its duals prove: there are none; "
            "the solution was altered or the solver was wrong"
        )
    if solution.dual_bound is None and not _stalled(relaxed, settings.gap) and _integer_or_optimal(solution):
        raise CheckFailed(
            "the solution holds no duals, and a relaxation that was solved leaves some; they were removed"
        )


def _integer_or_optimal(solution: Solution) -> bool:
    return solution.certificate.status == "optimal" or bool(_of_phase(solution.rounds, "integer"))


def _require_phases(claimed: Certificate, settings: ScoreSettings, rounds: Sequence[Round], facts: Facts) -> None:
    """Bound and relaxation are those of the phase that they come from."""
    relaxed, integer = _of_phase(rounds, "relaxation"), _of_phase(rounds, "integer")
    if not relaxed:
        raise CheckFailed("the certificate's history lacks the rounds of the relaxation; they were cut")
    proved = facts.trivial if claimed.proved_bound is None else max(facts.trivial, claimed.proved_bound)
    if not facts.whole:
        if integer or claimed.relaxation is not None or claimed.relaxed_change is not None:
            raise CheckFailed(
                "the certificate has integer rounds or a relaxation, and its program is relaxed; it was altered"
            )
        if abs(claimed.bound - proved) > facts.slack * 1e-3:
            raise CheckFailed(
                f"the certificate says bound {claimed.bound:.17g}, which is "
                f"{'more' if claimed.bound > proved else 'less'} than its duals prove, {proved:.17g}; "
                "the solution was altered or the solver was wrong"
            )
        return
    if not integer or claimed.relaxation is None or claimed.relaxed_change is None:
        raise CheckFailed(
            "the certificate lacks the rounds, the relaxation or the relaxed change of its integer program; altered"
        )
    if claimed.bound != integer[-1].bound:
        raise CheckFailed(
            f"the certificate says bound {claimed.bound:.17g}, its last round {integer[-1].bound:.17g}; altered"
        )
    if integer[0].bound < proved - facts.slack:
        raise CheckFailed(
            f"the history's first integer round has the bound {integer[0].bound:.9g}, below the {proved:.9g} that the "
            "duals prove; it was altered"
        )
    _require_relaxation(claimed, settings, relaxed, proved, facts)


def _require_relaxation(
    claimed: Certificate, settings: ScoreSettings, relaxed: Sequence[Round], proved: float, facts: Facts
) -> None:
    assert claimed.relaxation is not None
    assert claimed.relaxed_change is not None
    if claimed.relaxation != relaxed[-1].objective:
        raise CheckFailed(
            f"the certificate says relaxation {claimed.relaxation:.17g}, the last round of its relaxation "
            f"{relaxed[-1].objective:.17g}; the solution was altered"
        )
    if not _stalled(relaxed, settings.gap):
        if relative_gap(claimed.relaxation, proved) > settings.gap + facts.slack:
            raise CheckFailed(
                f"the certificate says relaxation {claimed.relaxation:.9g}, its duals prove {proved:.9g}, and "
                f"integer rounds begin at a gap of {settings.gap:g}; the relaxation was altered"
            )
        if abs(relaxed[-1].bound - proved) > facts.slack:
            raise CheckFailed(
                f"the history's last round of the relaxation has the bound {relaxed[-1].bound:.9g}, the duals "
                f"prove {proved:.9g}; it was altered"
            )
    if claimed.relaxation > claimed.objective + settings.gap * max(1.0, abs(claimed.objective)):
        raise CheckFailed(
            f"the certificate's relaxation {claimed.relaxation:.9g} lies above its objective {claimed.objective:.9g}"
        )
    change = claimed.relaxed_change
    if set(change) != set(facts.layers) or not all(0.0 <= moved <= 1.0 for moved in change.values()):
        raise CheckFailed("the certificate's relaxed change is not one of scores in [0, 1] per scored layer; altered")


def _require_status(claimed: Certificate, settings: ScoreSettings, rounds: Sequence[Round]) -> None:
    """The status is one that the figures and the limits allow."""
    phase = _of_phase(rounds, rounds[-1].phase)
    if claimed.status == "optimal":
        if claimed.gap > settings.gap:
            raise CheckFailed(
                f"the certificate says optimal at a gap of {claimed.gap:.3g}, but {settings.gap:g} was asked for"
            )
        if rounds[-1].bound not in (claimed.bound, claimed.proved_bound) or rounds[-1].gap > settings.gap:
            raise CheckFailed(
                f"the certificate says optimal with bound {claimed.bound:.17g}, its last round says "
                f"{rounds[-1].bound:.17g} at a gap of {rounds[-1].gap:.3g}; rounds were cut or altered"
            )
        return
    if phase[-1].gap <= settings.gap and claimed.gap <= settings.gap and claimed.proved_bound is not None:
        why = f"the gap {claimed.gap:.3g} is closed ({settings.gap:g} was asked for)"
    elif claimed.status == "time_limit" and claimed.seconds < LIMIT_SHARE * settings.time_limit:
        why = f"it took {claimed.seconds:.3g} of {settings.time_limit:g} seconds"
    elif claimed.status == "round_limit" and claimed.rounds < settings.max_rounds:
        why = f"it took {claimed.rounds} of {settings.max_rounds} rounds"
    elif claimed.status == "stalled" and not _stalled(phase, settings.gap):
        why = f"its last {PATIENCE} rounds made progress"
    else:
        return
    raise CheckFailed(f"the certificate says status {claimed.status}, but {why}; the solution was altered")


def _of_phase(rounds: Sequence[Round], phase: str) -> list[Round]:
    return [each for each in rounds if each.phase == phase]


def _stalled(rounds: Sequence[Round], gap: float) -> bool:
    """Whether the last rounds of a phase made no progress."""
    if len(rounds) < PATIENCE:
        return False
    for before, after in pairwise(rounds[-PATIENCE:]):
        if max(before.objective - after.objective, after.bound - before.bound) > IDLE_SHARE * gap:
            return False
    return True
