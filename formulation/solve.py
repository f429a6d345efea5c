"""Outer approximation: a linear program, the planes and rows its answer breaks, again, until the gap is closed.

The unpruned network (every score 1) is feasible in every semantics, so there is an incumbent from the start; every
relaxed answer is drawn towards it until it breaks no row. The relaxation comes first; integer rounds take over its
rows and planes. Every plane and row is valid, so every solver bound is one of the program.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from formulation.errors import SolverFailed
from formulation.loss import Rows, cross_entropy, lifted_cuts, stack_rows, tangent_cuts
from formulation.network import Array
from formulation.program import Program, build
from formulation.reduction import Reduction
from formulation.separation import TOLERANCE, Separation
from formulation.settings import ScoreSettings
from formulation.solution import Round, Status
from formulation.solvers import open_session
from formulation.sparsity import sparsity

ROWS_PER_ROUND = 2000
PATIENCE = 20  # rounds without a new row and without progress before the search counts as stalled
IDLE_SHARE = 1e-3  # progress is a bound or an incumbent better by more than this share of the gap asked for
AT_BOUND = 1e-9

Progress = Callable[[Round], None]


@dataclass(frozen=True, eq=False)
class Incumbent:
    """A feasible point and its true objective."""

    point: Array
    objective: float
    cross_entropy: float
    sparsity: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """How a solve ended. `relaxation` is the relaxed objective where integer rounds followed."""

    status: Status
    incumbent: Incumbent
    bound: float
    rounds: tuple[Round, ...]
    rows: int
    relaxation: float | None
    solver: str
    solver_version: str
    improved: bool  # the incumbent is better than the unpruned network
    program: Program  # of the last phase, with every row and plane found

    @property
    def gap(self) -> float:
        return relative_gap(self.incumbent.objective, self.bound)


def relative_gap(objective: float, bound: float) -> float:
    """(objective - bound) / max(1, |objective|), at least 0."""
    return max(0.0, objective - bound) / max(1.0, abs(objective))


def solve(reduction: Reduction, settings: ScoreSettings, progress: Progress | None = None) -> Outcome:
    """Minimise the program of a reduced scoring set to the relative gap, the round limit or the time limit.

    Raises:
        SolverUnavailable, SolverFailed, InfeasibleProgram: see `solvers`.
    """
    search = _Search(reduction, settings, progress)
    search.run("relaxation")
    undecided = reduction.columns > reduction.scores
    if settings.integer_scores or (undecided and not settings.relax):
        relaxed = search.best.objective
        search.restart_from_ones()
        if search.status in ("optimal", "stalled"):
            search.run("integer")
            return search.outcome(relaxed)
    return search.outcome(None)


class _Search:
    """The state of one solve: incumbent, bound, and every row and plane found so far."""

    def __init__(self, reduction: Reduction, settings: ScoreSettings, progress: Progress | None) -> None:
        self.started = time.perf_counter()
        self.reduction, self.settings, self.progress = reduction, settings, progress
        self.ones = self.evaluate(reduction.complete(np.ones(reduction.scores)))
        self.separation = Separation(reduction, self.ones.point)
        self.pool: list[Rows] = []
        self.rounds: list[Round] = []
        self.best = self.ones
        self.status: Status = "round_limit"
        # the loss is at least 0 and every layer term at least that of all-zero scores
        self.bound = sparsity(reduction.network, np.zeros(reduction.scores), settings.layer_weight)

    def restart_from_ones(self) -> None:
        """Forget the incumbent: a relaxed point is none of the integer program. The bound stays valid."""
        self.best = self.ones

    def evaluate(self, point: Array) -> Incumbent:
        """The true objective at a feasible point."""
        loss = float(cross_entropy(self.reduction.logits(point), self.reduction.labels).mean())
        term = sparsity(self.reduction.network, point[: self.reduction.scores], self.settings.layer_weight)
        return Incumbent(point, self.settings.loss_weight * loss + term, loss, term)

    def run(self, phase: Literal["relaxation", "integer"]) -> None:
        """Rounds until the gap is closed or a limit is met."""
        program = build(self.reduction, self.settings, integer=phase == "integer")
        self.session = open_session(program, self.settings)
        self.width = len(program.labels)
        if self.pool:
            self.session.add_rows("pool", stack_rows(self.pool, self.width))
        else:
            self._add([self._planes(self.ones.point)])
        idle = 0
        while len(self.rounds) < self.settings.max_rounds:
            if self._remaining() <= 0:
                self.status = "time_limit"
                return
            answer = self.session.solve(self._remaining(), self.settings.gap / 2)
            if answer.point is not None and not np.isfinite(answer.point).all():
                raise SolverFailed(f"{self.session.name} answered NaN or infinite values; try other solver_options")
            point = None if answer.point is None else answer.point[: self.reduction.columns]
            before = (self.best.objective, self.bound)
            self.bound = max(self.bound, answer.bound)
            if point is not None:
                self._consider(point, phase)
            self._report(phase)
            if relative_gap(self.best.objective, self.bound) <= self.settings.gap:
                self.status = "optimal"
                return
            if point is None or not answer.complete:
                self.status = "time_limit"
                return
            moved = max(before[0] - self.best.objective, self.bound - before[1]) > IDLE_SHARE * self.settings.gap
            idle = 0 if self._refine(point) or moved else idle + 1
            if idle == PATIENCE:
                self.status = "stalled"
                return
        self.status = "round_limit"

    def _consider(self, point: Array, phase: Literal["relaxation", "integer"]) -> None:
        """Make the solver's point feasible, and keep it if it is better than the incumbent."""
        candidate = self._drawn_inside(point) if phase == "relaxation" else self._whole(point)
        if candidate is not None:
            found = self.evaluate(candidate)
            if found.objective < self.best.objective:
                self.best = found

    def _drawn_inside(self, point: Array) -> Array:
        """The relaxed point drawn towards the unpruned network until it breaks no row."""
        inside = np.concatenate([self._scores(point), point[self.reduction.scores :]])
        return self.ones.point + self.separation.step_inside(inside) * (inside - self.ones.point)

    def _whole(self, point: Array) -> Array | None:
        """The integer point with its activations computed again; None where a row that is not added yet breaks."""
        scores = np.round(self._scores(point)) if self.settings.integer_scores else self._scores(point)
        candidate = np.concatenate([scores, point[self.reduction.scores :]])
        if not self.settings.relax:  # whole phases leave one value to every undecided activation
            candidate = self.reduction.complete(scores)
        return candidate if self.separation.largest_violation(candidate) <= TOLERANCE else None

    def _scores(self, point: Array) -> Array:
        """The point's scores, those at a bound but for the solver's tolerance exactly there."""
        scores = np.clip(point[: self.reduction.scores], 0.0, 1.0)
        nearest = np.round(scores)
        return np.where(np.abs(scores - nearest) <= AT_BOUND, nearest, scores)

    def _refine(self, point: Array) -> bool:
        """Add the rows that the point breaks and planes around it; False if no row was broken."""
        rows = self.separation.violated(point, ROWS_PER_ROUND)
        middle = (point + self.best.point) / 2
        self._add([rows, self._planes(point), self._planes(middle)])
        return len(rows) > 0

    def _planes(self, point: Array) -> Rows:
        make = tangent_cuts if self.settings.cuts == "tangent" else lifted_cuts
        return make(self.reduction, point)

    def _add(self, blocks: list[Rows]) -> None:
        rows = stack_rows([block for block in blocks if len(block)], self.width)
        self.session.add_rows(f"round_{len(self.rounds)}", rows)
        self.pool.append(rows)

    def _remaining(self) -> float:
        return self.settings.time_limit - (time.perf_counter() - self.started)

    def _report(self, phase: Literal["relaxation", "integer"]) -> None:
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

    def complete_program(self) -> Program:
        """The program of the last phase with every row and plane found: a program that needs no further rounds."""
        program = build(self.reduction, self.settings, integer=bool(self.rounds) and self.rounds[-1].phase == "integer")
        program.add_rows("found", stack_rows(self.pool, self.width))
        return program

    def outcome(self, relaxation: float | None) -> Outcome:
        """What this search found."""
        return Outcome(
            status=self.status,
            incumbent=self.best,
            bound=self.bound,
            rounds=tuple(self.rounds),
            rows=sum(len(block) for block in self.pool),
            relaxation=relaxation,
            solver=self.session.name,
            solver_version=self.session.version,
            improved=self.best is not self.ones,
            program=self.complete_program(),
        )
