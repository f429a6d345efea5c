"""The solver sessions: options, limits, fixing, and HiGHS in place against HiGHS through linopy."""

from __future__ import annotations

import time
from dataclasses import replace

import linopy
import numpy as np
import pytest
from linopy.solvers import LicenseStatus

from formulation import (
    InfeasibleProgram,
    InvalidSetting,
    ScoreSettings,
    SolverFailed,
    SolverUnavailable,
    require_solver,
    score,
)
from formulation.relaxation.reduction import Reduction
from formulation.solve.program import build_program
from formulation.solve.solvers import HighsSession, LinopySession, Session, open_session
from tests.formulation.cases import conv_pool, dense, loss_cuts_at
from tests.formulation.paper_settings import paper_settings

CASE = dense(1)


def opened(kind: type, settings: ScoreSettings, reduction: Reduction, *, integer: bool) -> Session:
    program = build_program(reduction, settings, integer=integer)
    session: Session = kind(program, settings)
    session.add_cuts("loss_cuts", loss_cuts_at(reduction, np.ones(reduction.scores)))
    session.add_cuts("more", loss_cuts_at(reduction, np.zeros(reduction.scores)))
    return session


@pytest.mark.parametrize("integer", [False, True], ids=["relaxed", "integer"])
@pytest.mark.parametrize("cuts", ["tangent", "lifted"])
def test_highs_in_place_and_through_linopy_answer_the_same(cuts: str, integer: bool) -> None:
    settings = paper_settings(radius=0.1, relax=not integer, cuts=cuts)
    reduction = CASE.reduction(settings)
    answers = [
        opened(kind, settings, reduction, integer=integer).solve(60, 1e-9) for kind in (HighsSession, LinopySession)
    ]
    assert all(answer.complete for answer in answers)
    assert answers[0].bound == pytest.approx(answers[1].bound, abs=1e-6)
    for answer in answers:
        assert answer.point is not None
        assert len(answer.point) == len(build_program(reduction, settings, integer=integer).labels)


def test_the_whole_loop_through_linopy_reaches_the_same_optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = paper_settings(radius=0.1, gap=1e-6)
    in_place = score(CASE.model, CASE.images, CASE.labels, settings).certificate
    monkeypatch.setattr("formulation.solve.search.open_session", LinopySession)
    through = score(CASE.model, CASE.images, CASE.labels, settings).certificate
    assert through.objective == pytest.approx(in_place.objective, abs=1e-5)
    assert (in_place.solver, through.solver) == ("highs", "highs")


@pytest.mark.parametrize("kind", [HighsSession, LinopySession])
def test_fixed_columns_stay_fixed_and_can_be_fixed_again(kind: type) -> None:
    settings = paper_settings(gate="exact", relax=False, radius=0)
    reduction = CASE.reduction(settings)
    session = opened(kind, settings, reduction, integer=True)
    for value in (1.0, 0.0, 1.0):
        wanted = np.full(reduction.scores, value)
        wanted[0] = 1.0
        session.fix(np.arange(reduction.scores), wanted)
        answer = session.solve(60, 1e-9)
        assert answer.point is not None
        np.testing.assert_allclose(answer.point[: reduction.scores], wanted, atol=1e-7)


@pytest.mark.parametrize("kind", [HighsSession, LinopySession])
def test_an_infeasible_program_is_named(kind: type) -> None:
    settings = paper_settings(gate="published", relax=False, radius=0.02)
    reduction = dense(hidden=(8, 6)).reduction(settings)
    session = opened(kind, settings, reduction, integer=True)
    (part,) = reduction.batches
    name, unstable = next(iter(part.unstable.items()))
    session.fix(unstable.value[:1], part.gates[name].cap[unstable.activation[:1], unstable.image[:1]])
    session.fix(unstable.phase[0, :1], np.zeros(1))
    with pytest.raises(InfeasibleProgram, match="highs calls the program infeasible"):
        session.solve(60, 1e-9)


@pytest.mark.parametrize("integer", [False, True], ids=["relaxed", "integer"])
def test_a_time_limit_is_for_one_solve_and_not_for_the_sessions_whole_life(integer: bool) -> None:
    settings = paper_settings(gate="exact", relax=not integer, allow_degenerate=True, radius=0.01)
    reduction = conv_pool().reduction(settings)
    session = opened(HighsSession, settings, reduction, integer=integer)
    rng = np.random.default_rng(0)
    limit, spent = 0.3, 0.0
    while spent < 2 * limit:
        session.fix(np.arange(reduction.scores), np.round(rng.random(reduction.scores)))
        started = time.perf_counter()
        answer = session.solve(limit, 1e-9)
        spent += time.perf_counter() - started
        assert answer.complete


def test_the_number_of_threads_may_change_from_call_to_call() -> None:
    objectives = [
        score(CASE.model, CASE.images, CASE.labels, paper_settings(threads=threads)).certificate.objective
        for threads in (1, 2, 1)
    ]
    assert objectives[0] == pytest.approx(objectives[1], abs=1e-6)
    assert objectives[0] == objectives[2]


def test_an_unknown_solver_is_refused_with_those_installed() -> None:
    with pytest.raises(
        SolverUnavailable, match=r"'hihgs' is not installed \(did you mean 'highs'\?\); installed: .*highs"
    ):
        score(CASE.model, CASE.images, CASE.labels, paper_settings(solver="hihgs"))


def test_every_installed_solver_is_accepted_by_name() -> None:
    assert "highs" in linopy.available_solvers
    for name in linopy.available_solvers:
        require_solver(name)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mip_rel_gapp": 1e-3}, "'mip_rel_gapp' is unknown to highs; did you mean 'mip_rel_gap"),
        ({"presolv": "off"}, "did you mean 'presolve"),
        ({"presolve": 3}, "presolve=3 is not a value"),
        ({"presolve": "sometimes"}, "presolve='sometimes' is not a value"),
        ({"presolve": [1]}, r"presolve=\[1\] is not a value"),
        ({"presolve": None}, "presolve=None is not a value"),
    ],
)
def test_a_wrong_solver_option_is_refused_with_near_names(options: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidSetting, match=says) as refusal:
        score(CASE.model, CASE.images, CASE.labels, paper_settings(solver_options=options))
    assert len(str(refusal.value).splitlines()) == 1


def test_a_solver_option_that_drops_integrality_is_refused_before_any_round() -> None:
    rounds = []
    settings = paper_settings(solver_options={"solver": "simplex"}, radius=0.1, relax=False)
    assert CASE.reduction(settings).columns > CASE.reduction(settings).scores
    with pytest.raises(InvalidSetting, match="solver='simplex' drops integrality"):
        score(CASE.model, CASE.images, CASE.labels, settings, progress=rounds.append)
    assert rounds == []
    relaxed = replace(settings, relax=True)
    assert score(CASE.model, CASE.images, CASE.labels, relaxed).certificate.status == "optimal"


def test_a_solver_without_a_licence_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = LicenseStatus("highs", ok=False, message="GurobiError: No Gurobi\nlicense found")
    monkeypatch.setattr("linopy.solvers.check_solver_licenses", lambda name: {name: refused})
    with pytest.raises(
        SolverUnavailable, match=r"'highs' is installed but has no licence \(GurobiError: No Gurobi lic"
    ):
        require_solver("highs")


def test_highspy_1_14_0_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("formulation.solve.solvers.solver_registry.highs_version", lambda: (1, 14, 0))
    with pytest.raises(SolverUnavailable, match=r"1\.14\.0 returned wrong optima; install highspy 1\.15\.1"):
        require_solver("highs")


@pytest.mark.parametrize("relax", [True, False], ids=["relaxed", "integer"])
def test_presolve_does_not_change_the_optimum(relax: bool) -> None:
    objectives = [
        score(
            CASE.model, CASE.images, CASE.labels,
            paper_settings(radius=0.1, relax=relax, gap=1e-7, solver_options={"presolve": presolve}),
        ).certificate.objective
        for presolve in ("on", "off")
    ]  # fmt: skip
    assert objectives[0] == pytest.approx(objectives[1], abs=1e-6)


def test_the_session_of_a_setting_is_highs_in_place() -> None:
    settings = paper_settings()
    session = open_session(build_program(CASE.reduction(settings), settings, integer=False), settings)
    assert isinstance(session, HighsSession)
    assert session.version.count(".") == 2


def test_an_optimal_answer_with_large_residuals_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    case = dense()
    settings = paper_settings(gate="pattern", radius=0.0)
    monkeypatch.setattr("formulation.solve.solvers.highs.RESIDUAL", -1.0)  # no answer is as good as that
    with pytest.raises(SolverFailed, match="residuals"):
        score(case.model, case.images, case.labels, settings)


def test_scip_that_is_missing_is_answered_by_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linopy, "available_solvers", ["highs"])
    with pytest.raises(SolverUnavailable, match=r'is not installed: pip install "critical-neurons\[solvers\]"'):
        require_solver("scip")
