"""Solvers that are real processes and misbehave: fakes on PATH that die, talk nonsense, lie, or never end."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from formulation import ScoreSettings, SolverFailed, SolverUnavailable, TimeLimitReached, score
from formulation.relaxation.loss import cross_entropy
from formulation.relaxation.sparsity import sparsity
from formulation.solve.program import build_program
from formulation.solve.separation import complete
from formulation.solve.solvers import CbcSession, GlpkSession, Session, open_session
from tests.busy import BUSY
from tests.formulation.cases import conv_pool, dense, loss_cuts_at
from tests.formulation.paper_settings import paper_settings
from tests.formulation.required import SOLVERS, require_installed

PROGRAMS = {"cbc": "cbc", "glpk": "glpsol"}
CASE = dense(1)
EASY = paper_settings(radius=0.1)

# python that puts the answer's place, the real program and its exit into reach
PRELUDE = """#!{python}
import os, re, signal, subprocess, sys, time
words = sys.argv[1:]
probe = len(words) < 4
answer = None if probe else words[words.index("-solu" if "-solu" in words else "--write") + 1]
def real():
    return subprocess.run(["{real}", *words]).returncode
if probe:
    sys.exit(real())
"""
FAKES = {
    "killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "child killed": """
child = subprocess.Popen(["{real}", *words])
time.sleep(0.5)
child.kill()
code = child.wait()
sys.exit(128 - code)
""",
    "exit code": "print('out of luck'); sys.exit(3)",
    "silent": "sys.exit(0)",
    "garbage": "open(answer, 'w').write('lorem ipsum\\ndolor sit amet\\n')",
    "binary": "open(answer, 'wb').write(bytes(range(128, 256)) * 9)",
    "half": "real(); text = open(answer).read(); open(answer, 'w').write(text[: len(text) // 2])",
    "nan": "real(); text = open(answer).read(); open(answer, 'w').write(re.sub(r'(x7 +|j 8 . )\\S+', r'\\1nan', text))",
    "wrong point": """
real()
text = open(answer).read()
open(answer, "w").write(re.sub(r"(?m)^( +\\d+ x\\d+ +|j \\d+ b )\\S+", r"\\g<1>-0.75", text))
""",
    "wrong bound": """
real()
text = open(answer).read()
text = re.sub(r"objective value +\\S+", "objective value 1.5", text)
open(answer, "w").write(re.sub(r"(?m)^(s .*) \\S+$", r"\\1 1.5", text))
""",
    "endless": "time.sleep(60)",
}


@pytest.fixture
def own_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of all temporary files of the test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a misbehaving program before the real one."""

    def put(solver: str, kind: str) -> None:
        require_installed(solver)
        real = shutil.which(PROGRAMS[solver])
        path = tmp_path / "bin" / PROGRAMS[solver]
        path.parent.mkdir()
        path.write_text((PRELUDE + FAKES[kind]).replace("{python}", sys.executable).replace("{real}", str(real)))
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(path.parent), prepend=":")

    return put


@pytest.mark.parametrize("solver", PROGRAMS)
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("killed", "died by signal 9"),
        ("exit code", "ended with exit code 3: out of luck"),
        ("silent", "wrote an answer that cannot be read"),
        ("garbage", "wrote an answer that cannot be read"),
        ("binary", "wrote an answer that cannot be read"),
        ("half", "wrote an answer that cannot be read"),
        ("nan", "cannot be read|NaN"),
        ("wrong point", "answered a point that violates a (row|bound) of its program by"),
        ("wrong bound", r"calls 1\.[45]\d* optimal, but its duals prove only 0.19"),
    ],
)
def test_a_solver_process_that_misbehaves_is_named_in_one_line(
    solver: str, kind: str, says: str, fake, own_temporary: Path
) -> None:
    fake(solver, kind)
    with pytest.raises(SolverFailed, match=f"{solver} .*({says})") as refusal:
        score(CASE.model, CASE.images, CASE.labels, replace(EASY, solver=solver))
    assert len(str(refusal.value).splitlines()) == 1
    assert list(own_temporary.iterdir()) == []


@pytest.mark.parametrize("solver", PROGRAMS)
def test_a_real_solver_killed_in_the_middle_is_named(solver: str, fake, own_temporary: Path) -> None:
    fake(solver, "child killed")
    hard = session_of(solver, paper_settings(gate="exact", radius=0.05, relax=False), integer=True)
    with pytest.raises(SolverFailed, match=f"{solver} died by signal 9 before it answered"):
        hard.solve(30.0, 1e-9)
    assert list(own_temporary.iterdir()) == []


@pytest.mark.parametrize("solver", PROGRAMS)
def test_a_solver_process_that_ignores_its_time_limit_is_killed(solver: str, fake, own_temporary: Path) -> None:
    fake(solver, "endless")
    started = time.perf_counter()
    with pytest.raises(TimeLimitReached, match="time limit"):
        score(CASE.model, CASE.images, CASE.labels, replace(EASY, solver=solver, time_limit=1.0))
    assert time.perf_counter() - started < BUSY
    assert list(own_temporary.iterdir()) == []


@pytest.mark.parametrize(("solver", "kind"), [("cbc", CbcSession), ("glpk", GlpkSession)])
def test_a_program_that_went_away_is_named(solver: str, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    reduction = CASE.reduction(EASY)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SolverUnavailable, match=f"no program '{PROGRAMS[solver]}' is on PATH"):
        kind(build_program(reduction, EASY, integer=False), replace(EASY, solver=solver))


def session_of(solver: str, settings: ScoreSettings, *, integer: bool) -> Session:
    reduction = conv_pool(7).reduction(settings)
    session = open_session(build_program(reduction, settings, integer=integer), replace(settings, solver=solver))
    for level in (1.0, 0.0, 0.5):
        session.add_cuts(f"level_{level}", loss_cuts_at(reduction, np.full(reduction.scores, level)))
    return session


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_time_limit_of_an_integer_program_comes_with_a_valid_bound(solver: str, own_temporary: Path) -> None:
    require_installed(solver)
    settings = paper_settings(gate="exact", radius=0.05, relax=False)
    hard = session_of(solver, settings, integer=True)
    for limit in (1.0, 2.0, 4.0):  # on busy cores the first may end before a solver has any bound
        started = time.perf_counter()
        answer = hard.solve(limit, 1e-9)
        assert time.perf_counter() - started < limit + BUSY
        if np.isfinite(answer.bound):
            break
    assert not answer.complete
    relaxation = session_of("highs", settings, integer=False).solve(60, 1e-9)
    assert answer.bound >= relaxation.bound - 0.01
    # a bound lies below the true objective of every feasible point; in `exact` every score vector is one
    reduction, rng = conv_pool(7).reduction(settings), np.random.default_rng(0)
    drawn = [rng.random(reduction.scores) < rng.random() for _ in range(200)]
    found = [] if answer.point is None else [np.clip(answer.point[: reduction.scores], 0, 1)]
    for scores in [*drawn, *found]:
        loss = cross_entropy(complete(reduction, scores.astype(float))[1], reduction.labels).mean()
        term = sparsity(reduction.network, scores.astype(float), settings.layer_weight)
        assert answer.bound <= settings.loss_weight * loss + term
    assert list(own_temporary.iterdir()) == []


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_time_limit_of_one_second_ends_in_a_certificate_or_an_error_that_says_so(
    solver: str, own_temporary: Path
) -> None:
    require_installed(solver)
    case, started = conv_pool(7), time.perf_counter()
    settings = paper_settings(gate="exact", radius=0.05, relax=False, solver=solver, time_limit=1.0, gap=1e-7)
    reached = None
    try:
        certificate = score(case.model, case.images, case.labels, settings).certificate
    except TimeLimitReached as error:
        reached = str(error)
    if reached is None:
        assert certificate.status == "time_limit"
        assert certificate.bound <= certificate.objective
    else:
        assert "time limit of 1 s" in reached
    assert time.perf_counter() - started < 1.0 + BUSY
    assert list(own_temporary.iterdir()) == []


@pytest.mark.parametrize("integer", [False, True], ids=["relaxed", "integer"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_time_limit_in_the_middle_of_anything_is_no_infeasibility(solver: str, integer: bool) -> None:
    require_installed(solver)
    session = session_of(solver, paper_settings(gate="exact", radius=0.05, relax=False), integer=integer)
    for limit in (
        0.002,
        0.02,
        0.05,
        0.1,
    ):  # CBC calls a program infeasible when it runs out of time in its preprocessing
        answer = session.solve(limit, 1e-9)
        assert answer.complete or answer.point is None or np.isfinite(answer.point).all()


@pytest.mark.parametrize("solver", SOLVERS[1:])
def test_an_optimal_answer_with_a_wrong_point_is_refused_by_name(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    require_installed(solver)
    settings = replace(EASY, solver=solver)
    session = open_session(build_program(CASE.reduction(settings), settings, integer=False), settings)
    told = type(session).ask_solver

    def wrong(self, *arguments):
        answer = told(self, *arguments)
        return replace(answer, values=np.where(answer.values > 0.5, answer.values, 0.5))

    monkeypatch.setattr(type(session), "ask_solver", wrong)
    with pytest.raises(SolverFailed, match=f"{solver} answered a point that violates"):
        score(CASE.model, CASE.images, CASE.labels, settings)
