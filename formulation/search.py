"""The state of one solve: incumbent, bound, and every row and plane found so far.

Outer approximation: a linear program, the planes and rows its answer breaks, again, until the gap is closed. The
unpruned network (every score 1) is feasible in every semantics, so there is an incumbent from the start; every relaxed
answer is drawn towards it until it breaks no row. Every plane and row is valid, so every solver bound is one of the
program.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import numpy as np

from formulation.errors import SolverFailed
from formulation.loss import cross_entropy
from formulation.network import Array
from formulation.outcome import Incumbent, Outcome, relative_gap
from formulation.program import Program, build
from formulation.proof import Lagrangian, from_duals, lagrangian
from formulation.reduction import Reduction
from formulation.rows import Duals, Rows, stack_rows
from formulation.separation import TOLERANCE, Inspection, Separation, Touch, complete
from formulation.settings import ScoreSettings
from formulation.solution import Phase, Proof, Round, Status
from formulation.solvers import Answer, HighsSession, open_session
from formulation.sparsity import sparsity

# Measured on FC-3, FC-4 and LeNet-5 with 10 to 1,000 images: more rows at once cost more than the rounds they save, and
# for few images more planes are worth theirs. Shares are of the way from a round's point to the incumbent.
FEW = 20
ROWS_PER_ROUND, ROWS_OF_FEW = 250, 90
SHARES, SHARES_OF_FEW = (0.0, 0.5), (0.0, 0.2, 0.4, 0.6, 0.8)
PATIENCE = 20  # rounds without a new row and without progress before the search counts as stalled
IDLE_SHARE = 1e-3  # progress is a bound or an incumbent better by more than this share of the gap asked for
AT_BOUND = 1e-9
NEARLY = 3.0  # times the gap: from there on a bound is proved, which closes what is left a little sooner
UNPROVED = 1e-6  # of a bound, relative: how much more a solver may claim than its multipliers prove

Progress = Callable[[Round], None]


class Search:
    """The state of one solve: incumbent, bound, and every row and plane found so far."""

    def __init__(self, reduction: Reduction, settings: ScoreSettings, progress: Progress | None) -> None:
        self.started = time.perf_counter()
        self.reduction, self.settings, self.progress = reduction, settings, progress
        self.ones = self.evaluate(*complete(reduction, np.ones(reduction.scores)))
        self.separation = Separation(reduction)
        self.pool: list[Rows] = []
        self.rounds: list[Round] = []
        self.best = self.ones
        self.status: Status = "round_limit"
        self.duals: tuple[Duals, int] | None = None  # and how many blocks of the pool they speak of
        self.proof: Proof | None = None
        self.lagrangian: Lagrangian | None = None
        # the loss is at least 0 and every layer term at least that of all-zero scores
        self.trivial = sparsity(reduction.network, np.zeros(reduction.scores), settings.layer_weight)
        self.bound = self.trivial

    def begin(self, start: Array | None = None) -> None:
        """The first planes: at the unpruned network, and at the scores `start`."""
        points = [self.ones.point]
        if start is not None:
            points.append(complete(self.reduction, start)[0])
        for point in points:
            found = self.separation.inspect(point, limit=ROWS_PER_ROUND)
            self.pool += [found.rows, found.planes]

    def restart_from_ones(self) -> None:
        """Forget the incumbent: a relaxed point is none of the integer program. The bound stays valid."""
        self.best = self.ones

    def evaluate(self, point: Array, logits: Array) -> Incumbent:
        """The true objective at a feasible point."""
        loss = float(cross_entropy(logits, self.reduction.labels).mean())
        term = sparsity(self.reduction.network, point[: self.reduction.scores], self.settings.layer_weight)
        return Incumbent(point, logits, self.settings.loss_weight * loss + term, loss, term)

    def run(self, phase: Literal["relaxation", "integer"]) -> None:
        """Rounds until the gap is closed or a limit is met."""
        self.program: Program = build(self.reduction, self.settings, integer=phase == "integer")
        self.session = open_session(self.program, self.settings)
        self.width = len(self.program.labels)
        self.session.add_rows("pool", stack_rows(self.pool, self.width))
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
            if phase == "relaxation" and relative_gap(self.best.objective, self.bound) <= NEARLY * self.settings.gap:
                self.prove()
            self.report(phase)
            if found is not None:  # also where the phase ends here: the next one needs the rows, which are given once
                self.add(found)
            if self.closed(phase):
                self.status = "optimal"
                return
            if found is None or not answer.complete:
                self.status = "time_limit"
                return
            moved = max(before[0] - self.best.objective, self.bound - before[1]) > IDLE_SHARE * self.settings.gap
            idle = 0 if len(found.rows) or moved else idle + 1
            if idle == PATIENCE:
                self.status = "stalled"
                return
        self.status = "round_limit"

    def closed(self, phase: Phase) -> bool:
        """Whether the gap is closed; for the relaxation by a bound that is proved."""
        proved = phase == "integer" or (self.lagrangian is not None and self.bound <= self.lagrangian.bound)
        return proved and relative_gap(self.best.objective, self.bound) <= self.settings.gap

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
        """Raise the relaxation's bound to what the last multipliers prove; without any, HiGHS solves the program once.

        Raises:
            SolverFailed: the solver's bound is more than its multipliers prove.
        """
        if not isinstance(self.session, HighsSession):
            self.borrow_multipliers()
        if self.duals is None:
            return
        (duals, blocks), self.duals = self.duals, None
        proof = from_duals(self.reduction, stack_rows(self.pool[:blocks], self.width), duals)
        made = lagrangian(self.reduction, proof)
        if self.lagrangian is None or made.bound > self.lagrangian.bound:  # a later proof may prove less
            self.proof, self.lagrangian = proof, made
        proved = self.lagrangian.bound
        if self.bound - proved > UNPROVED * max(1.0, abs(proved)):
            raise SolverFailed(
                f"{self.session.name} claims a bound of {self.bound:.9g}, its multipliers prove {proved:.9g}; "
                "try other solver_options or another solver"
            )
        self.bound = proved

    def borrow_multipliers(self) -> None:
        """Multipliers from HiGHS for another solver's relaxation, as far as there is time and HiGHS can."""
        if self.remaining() <= 0:
            return
        fresh = build(self.reduction, self.settings, integer=False)  # other sessions put rows into theirs
        session = HighsSession(fresh, self.settings.for_highs())
        session.add_rows("pool", stack_rows(self.pool, self.width))
        try:
            answer = session.solve(self.remaining(), self.settings.gap)
        except SolverFailed:
            return  # the other solver's answer stands, its bound unproved
        duals = session.duals()
        if answer.complete and duals is not None:
            self.duals = (duals, len(self.pool))

    def keep_what_is_proved(self) -> None:
        """After the relaxation: only a proved bound counts, at worst the one that no solver is needed for."""
        self.prove()
        self.bound = self.trivial if self.lagrangian is None else max(self.trivial, self.lagrangian.bound)

    def learn(self, answered: Array, phase: Phase) -> Inspection:
        """A pass at the solver's point: what it breaks, and a new incumbent where it gives a better one."""
        point = self.snapped(answered[: self.reduction.columns])
        best = Touch(self.best.point, self.best.logits)
        few = self.reduction.images <= FEW
        limit, shares = (ROWS_OF_FEW, SHARES_OF_FEW) if few else (ROWS_PER_ROUND, SHARES)
        found = self.separation.inspect(point, limit=limit, towards=best, shares=shares)
        made = self.drawn_inside(point, found) if phase != "integer" else self.whole(point, found)
        if made is not None and made.objective < self.best.objective:
            self.best = made
        return found

    def drawn_inside(self, point: Array, found: Inspection) -> Incumbent:
        """The relaxed point drawn towards the unpruned network until it breaks no row."""
        return self.evaluate(
            self.ones.point + found.step * (point - self.ones.point),
            self.ones.logits + found.step * (found.logits - self.ones.logits),
        )

    def whole(self, point: Array, found: Inspection) -> Incumbent | None:
        """The integer point with its activations computed again; None where a row that is not added yet breaks."""
        scores = point[: self.reduction.scores]
        if self.settings.integer_scores:
            scores = np.round(scores)
        candidate, logits, violation = np.concatenate([scores, point[len(scores) :]]), found.logits, found.violation
        if not self.settings.relax:  # whole phases leave one value to every undecided activation
            candidate, logits = complete(self.reduction, scores)
        if not np.array_equal(candidate, point):
            again = self.separation.inspect(candidate, shares=())
            logits, violation = again.logits, again.violation
        return self.evaluate(candidate, logits) if violation <= TOLERANCE else None

    def snapped(self, point: Array) -> Array:
        """The point with its scores in [0, 1], those at a bound but for the solver's tolerance exactly there."""
        scores = np.clip(point[: self.reduction.scores], 0.0, 1.0)
        nearest = np.round(scores)
        scores = np.where(np.abs(scores - nearest) <= AT_BOUND, nearest, scores)
        return np.concatenate([scores, point[self.reduction.scores :]])

    def add(self, found: Inspection) -> None:
        """Hand the rows and planes of a pass to the solver."""
        rows = stack_rows([found.rows, found.planes], self.width)
        self.session.add_rows(f"round_{len(self.rounds)}", rows)
        self.pool.append(rows)

    def remaining(self) -> float:
        return self.settings.time_limit - (time.perf_counter() - self.started)

    def report(self, phase: Phase) -> None:
        made = Round(
            index=len(self.rounds),
            phase=phase,
            bound=self.bound,
            objective=self.best.objective,
            gap=relative_gap(self.best.objective, self.bound),
            rows=sum(len(block) for block in self.pool),
            seconds=time.perf_counter() - self.started,
        )
        self.rounds.append(made)
        if self.progress is not None:
            self.progress(made)

    def outcome(self, relaxed: Incumbent | None) -> Outcome:
        """What this search found."""
        return Outcome(
            status=self.status,
            incumbent=self.best,
            bound=self.bound,
            rounds=tuple(self.rounds),
            rows=stack_rows(self.pool, self.width),
            relaxed=relaxed,
            proof=self.proof,
            lagrangian=self.lagrangian,
            solver=self.session.name,
            solver_version=self.session.version,
            improved=self.best is not self.ones,
        )
