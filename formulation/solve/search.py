"""The state of one solve: incumbent, bound, and every cut found so far.

Outer approximation: a linear program, the cuts its answer breaks, again, until the gap is closed. The
unpruned network (every score 1) is feasible in every semantics, so there is an incumbent from the start; every relaxed
answer is drawn towards it until it breaks no cut. Every cut is valid, so every solver bound is one of the
program.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from formulation.deadline import Aftermath, Deadline
from formulation.errors import SolverFailed, TimeLimitReached
from formulation.network import Array
from formulation.relaxation import Cuts, Reduction, SolverDuals, sparsity, stack_cuts, stack_priced
from formulation.score_settings import ScoreSettings
from formulation.solution import Phase, Round, Status, relative_gap
from formulation.solve.incumbents import Incumbent, drawn_towards, incumbent_at, snapped, whole_point
from formulation.solve.program import Program, build_program
from formulation.solve.proved_bound import ProvedBound, duals_by_highs, require_proved
from formulation.solve.result import SolveResult
from formulation.solve.search_clock import SearchClock
from formulation.solve.separation import TOLERANCE, Inspection, Separation, TangentPoint, complete
from formulation.solve.solvers import Answer, HighsSession, open_session

# Measured on FC-3, FC-4 and LeNet-5 with 10 to 1,000 images: more cuts at once cost more than the rounds they save, and
# for few images more loss cuts are worth theirs. Shares are of the way from a round's point to the incumbent.
FEW = 20
CUTS_PER_ROUND, CUTS_OF_FEW = 120, 90
SHARES, SHARES_OF_FEW = (0.0, 0.5), (0.0, 0.2, 0.4, 0.6, 0.8)
PATIENCE = 20  # rounds without a new cut and without progress before the search counts as stalled
IDLE_SHARE = 1e-3  # progress is a bound or an incumbent better by more than this share of the gap asked for
LEAST = 1e-3  # s: the shortest time limit that a solver is given
NEARLY = 3.0  # times the gap: from there on a bound is proved, which closes what is left a little sooner

SearchProgress = Callable[[Round], None]


class Search:
    """The state of one solve: incumbent, bound, and every cut found so far.

    The time that `aftermath` says, and that of the last dual bound, is kept back from `deadline`, which is by default
    that of the settings' time limit, from now on. Raises TimeLimitReached where no time is left for a round.
    """

    def __init__(
        self,
        reduction: Reduction,
        settings: ScoreSettings,
        progress: SearchProgress | None,
        deadline: Deadline | None = None,
        aftermath: Aftermath = Aftermath(),  # noqa: B008 (frozen)
    ) -> None:
        self.reduction, self.settings, self.progress = reduction, settings, progress
        self.clock = SearchClock(Deadline.after(settings.time_limit) if deadline is None else deadline, aftermath)
        self.ones = incumbent_at(
            reduction, settings, *complete(reduction, np.ones(reduction.scores), self.clock.deadline)
        )
        self.clock.first_pass_ended()
        self.separation = Separation(reduction)
        self.pool: list[Cuts] = []
        self.rounds: list[Round] = []
        self.best = self.ones
        self.status: Status = "round_limit"
        self.duals: tuple[SolverDuals, int] | None = None  # and how many blocks of the pool they speak of
        self.proved = ProvedBound()
        # the loss is at least 0 and every layer term at least that of all-zero scores
        self.trivial = sparsity(reduction.network, np.zeros(reduction.scores), settings.layer_weight)
        self.bound = self.trivial
        self.clock.working.require("the first round", self.clock.first_pass)

    def begin(self, start: Array | None = None) -> None:
        """The first loss cuts: at the unpruned network, and at the scores `start`."""
        points = [self.ones.point]
        if start is not None:
            points.append(complete(self.reduction, start)[0])
        for point in points:
            found = self.inspect(point, limit=CUTS_PER_ROUND)
            if found.cut_short:
                self.clock.working.require("the first round", np.inf)
            self.pool += [found.cuts, found.loss_cuts]

    def inspect(self, point: Array, **how: Any) -> Inspection:
        """A pass at a point within the time that is not kept back."""
        found = self.separation.inspect(point, deadline=self.clock.working, **how)
        self.clock.last_pass = max(found.seconds, 1e-9)
        return found

    def restart_from_ones(self) -> None:
        """Forget the incumbent: a relaxed point is none of the integer program. The bound stays valid."""
        self.best = self.ones

    def run(self, phase: Literal["relaxation", "integer"]) -> None:
        """Rounds until the gap is closed or a limit is met."""
        if phase == "integer" and not self.clock.working.leaves(self.clock.writing_seconds):
            self.status = "time_limit"
            return
        self.clock.working.require("the first round", self.clock.writing_seconds)
        started = time.perf_counter()
        self.program: Program = build_program(self.reduction, self.settings, integer=phase == "integer")
        self.session = open_session(self.program, self.settings)
        self.clock.writing_seconds = time.perf_counter() - started
        self.width = len(self.program.labels)
        self.session.add_cuts("pool", stack_cuts(self.pool, self.width))
        idle = 0
        while len(self.rounds) < self.settings.max_rounds:
            if self.remaining() <= 0:
                self.status = "time_limit"
                return
            answer = self.ask()
            before = (self.best.objective, self.bound)
            # with the preference less its largest value the objective is below the program's, so its bound is valid
            self.bound = max(self.bound, answer.bound - self.program.preferred)
            found = None if answer.point is None else self.learn(answer.point, phase)
            nearly = relative_gap(self.best.objective, self.bound) <= NEARLY * self.settings.gap
            if phase == "relaxation" and nearly and self.clock.working.leaves(self.clock.dual_bound_seconds):
                self.prove()
            self.report(phase)
            if found is not None:  # also where the phase ends here: the next one needs the cuts, which are given once
                self.add(found)
            if self.closed(phase):
                self.status = "optimal"
                return
            if found is None or found.cut_short or not answer.complete:
                self.status = "time_limit"
                return
            moved = max(before[0] - self.best.objective, self.bound - before[1]) > IDLE_SHARE * self.settings.gap
            idle = 0 if len(found.cuts) or moved else idle + 1
            if idle == PATIENCE:
                self.status = "stalled"
                return
        self.status = "round_limit"

    def closed(self, phase: Phase) -> bool:
        """Whether the gap is closed; for the relaxation by a bound that is proved."""
        proved = phase == "integer" or self.bound_is_proved
        return proved and relative_gap(self.best.objective, self.bound) <= self.settings.gap

    @property
    def bound_is_proved(self) -> bool:
        """Whether duals, or the layer terms of all-zero scores beside them, prove the bound."""
        return self.proved.lagrangian is not None and self.bound <= max(self.trivial, self.proved.bound)

    def ask(self) -> Answer:
        """The session's answer, on our columns; raises SolverFailed where it holds no numbers."""
        answer = self.session.solve(self.remaining(), self.settings.gap / 2)
        if answer.point is not None and not np.isfinite(answer.point).all():
            raise SolverFailed(f"{self.session.name} answered NaN or infinite values; try other solver_options")
        if answer.complete and isinstance(self.session, HighsSession):
            duals = self.session.duals()
            self.duals = self.duals if duals is None else (duals, len(self.pool))
        return answer

    def prove(self) -> None:
        """Raise the relaxation's bound to what the last duals prove; without any, HiGHS solves the program once.

        Raises:
            SolverFailed: the solver's bound is more than its duals prove.
        """
        if not isinstance(self.session, HighsSession):
            self.borrow_duals()
        if self.duals is None:
            return
        (duals, blocks), self.duals = self.duals, None
        started = time.perf_counter()
        proved = self.proved.raised_by(self.reduction, *stack_priced(self.pool[:blocks], duals, self.width))
        self.clock.dual_bound_seconds = time.perf_counter() - started
        require_proved(self.bound, max(self.trivial, proved), self.session.name)
        self.bound = max(self.trivial, proved)

    def borrow_duals(self) -> None:
        """Duals from HiGHS for another solver's relaxation, as far as there is time and HiGHS can."""
        if not self.clock.deadline.earlier(self.clock.afterwards).leaves(self.clock.dual_bound_seconds):
            return
        left = self.clock.deadline.earlier(self.clock.afterwards + self.clock.dual_bound_seconds).remaining()
        duals = duals_by_highs(self.reduction, self.settings, stack_cuts(self.pool, self.width), max(left, LEAST))
        if duals is not None:
            self.duals = (duals, len(self.pool))

    def keep_what_is_proved(self) -> None:
        """After the relaxation: only a proved bound counts, at worst the one that no solver is needed for."""
        if self.bound_is_proved:
            return  # the last round's bound is proved already: another dual bound would only give it other digits
        if self.clock.leaves_last_dual_bound():
            self.prove()
        self.bound = max(self.trivial, self.proved.bound)
        if self.status == "time_limit" and self.closed("relaxation"):
            self.status = "optimal"

    def learn(self, answered: Array, phase: Phase) -> Inspection | None:
        """A pass at the solver's point: what it breaks, and a new incumbent where it gives a better one.

        None where there was no time for it.
        """
        point = snapped(answered[: self.reduction.columns], self.reduction.scores)
        best = TangentPoint(self.best.point, self.best.logits)
        few = self.reduction.images <= FEW
        limit, shares = (CUTS_OF_FEW, SHARES_OF_FEW) if few else (CUTS_PER_ROUND, SHARES)
        try:
            found = self.inspect(point, limit=limit, towards=best, shares=shares)
            made = self.relaxed(point, found) if phase == "relaxation" else self.whole(point, found)
        except TimeLimitReached:
            return None
        if made is not None and made.objective < self.best.objective:
            self.best = made
        return found

    def relaxed(self, point: Array, found: Inspection) -> Incumbent:
        """The relaxed point drawn towards the unpruned network until it breaks no cut."""
        drawn, logits = drawn_towards(self.ones, TangentPoint(point, found.logits), found.step)
        return incumbent_at(self.reduction, self.settings, drawn, logits)

    def whole(self, point: Array, found: Inspection) -> Incumbent | None:
        """The integer point with its activations computed again; None where a cut that is not added yet breaks."""
        candidate, logits = whole_point(self.reduction, self.settings, point, found.logits, self.clock.working)
        violation = found.violation
        if not np.array_equal(candidate, point):
            again = self.inspect(candidate, shares=())
            logits, violation = again.logits, again.violation
        return incumbent_at(self.reduction, self.settings, candidate, logits) if violation <= TOLERANCE else None

    def add(self, found: Inspection) -> None:
        """Hand the cuts of a pass to the solver."""
        cuts = stack_cuts([found.cuts, found.loss_cuts], self.width)
        self.session.add_cuts(f"round_{len(self.rounds)}", cuts)
        self.pool.append(cuts)

    def remaining(self) -> float:
        """Seconds that a solver may still take."""
        return self.clock.solver_seconds

    def report(self, phase: Phase) -> None:
        made = Round(
            index=len(self.rounds),
            phase=phase,
            bound=self.bound,
            objective=self.best.objective,
            gap=relative_gap(self.best.objective, self.bound),
            cuts=sum(len(block) for block in self.pool),
            seconds=time.perf_counter() - self.clock.started,
        )
        self.rounds.append(made)
        if self.progress is not None:
            self.progress(made)

    def outcome(self, relaxed: Incumbent | None) -> SolveResult:
        """What this search found."""
        return SolveResult(
            status=self.status,
            incumbent=self.best,
            bound=self.bound,
            rounds=tuple(self.rounds),
            cuts=stack_cuts(self.pool, self.width),
            relaxed=relaxed,
            dual_bound=self.proved.dual_bound,
            lagrangian=self.proved.lagrangian,
            solver=self.session.name,
            solver_version=self.session.version,
            improved=self.best is not self.ones,
        )
