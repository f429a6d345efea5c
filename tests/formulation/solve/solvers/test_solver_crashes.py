"""Integer programs whose solver really dies: a named error, the relaxation survives, no process is left behind."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from formulation import Solution, SolverCrashed, check, keep_within, score
from formulation.solve.program import build_program
from formulation.solve.solvers import IsolatedHighsSession, open_session
from formulation.solve.solvers.process import WORKER
from tests.busy import BUSY
from tests.formulation.cases import conv_pool, dense, loss_cuts_at
from tests.formulation.paper_settings import paper_settings

CASE = dense(1, images=6)
SETTINGS = paper_settings(radius=0.1, relax=False, loss_weight=20, gap=1e-7)


def workers() -> list[int]:
    """The solver processes that this process has started and that still run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except (OSError, IndexError):
            continue  # it has ended meanwhile
        if parent == os.getpid() and str(WORKER).encode() in words:
            found.append(int(folder.name))
    return found


@contextmanager
def killing(number: int) -> Iterator[None]:
    """Send a signal to the next solver process that starts."""
    before, done = set(workers()), threading.Event()

    def watch() -> None:
        while not done.is_set():
            for pid in set(workers()) - before:
                os.kill(pid, number)
                return
            time.sleep(0.01)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def hard_session() -> IsolatedHighsSession:
    """A session with a program that takes HiGHS more than a second."""
    settings = paper_settings(gate="exact", radius=0.05, relax=False)
    reduction = conv_pool(7).reduction(settings)
    session = open_session(build_program(reduction, settings, integer=True), settings)
    assert isinstance(session, IsolatedHighsSession)
    for level in (1.0, 0.0, 0.5):
        session.add_cuts(f"level_{level}", loss_cuts_at(reduction, np.full(reduction.scores, level)))
    return session


def after(seconds: float, act: Callable[[], object]) -> threading.Timer:
    timer = threading.Timer(seconds, act)
    timer.start()
    return timer


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_solver_that_dies_in_the_middle_is_named_and_the_next_solve_starts_it_again(number: int) -> None:
    session = hard_session()
    session.solve(0.5, 1e-9)
    if session.process.pid is None:  # a slow machine: the process has been ended before it could answer
        session.process.start()
    pid = session.process.pid
    assert pid is not None
    timer = after(0.3, lambda: os.kill(pid, number))
    with pytest.raises(SolverCrashed, match=rf"highs [\d.]+ crashed .*{signal.Signals(number).name}") as crash:
        session.solve(60.0, 1e-12)
    timer.join()
    assert len(str(crash.value).splitlines()) == 1
    again = session.solve(2.0, 1e-9)
    assert session.process.pid != pid
    assert not again.complete


def test_scip_dies_in_a_process_of_its_own_too() -> None:
    settings = replace(SETTINGS, solver="scip")
    with (
        killing(signal.SIGABRT),
        pytest.raises(SolverCrashed, match=r"scip [\d.]+ crashed .*SIGABRT.*survives") as crash,
    ):
        score(CASE.model, CASE.images, CASE.labels, settings)
    assert crash.value.relaxation.certificate.solver == "scip"
    whole = score(CASE.model, CASE.images, CASE.labels, settings).certificate
    highs = score(CASE.model, CASE.images, CASE.labels, SETTINGS).certificate
    assert whole.objective == pytest.approx(highs.objective, abs=1e-5)


def test_a_solver_without_memory_is_named() -> None:
    session = hard_session()
    while session.process.pid is None:
        session.solve(1.0, 1e-9)
    size = int(Path(f"/proc/{session.process.pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(session.process.pid, resource.RLIMIT_AS, (size, size))
    with pytest.raises(SolverCrashed, match=r"highs [\d.]+ crashed on an integer program") as crash:
        session.solve(60.0, 1e-12)
    assert len(str(crash.value).splitlines()) == 1


def test_the_relaxation_survives_a_crash_checked_and_says_so() -> None:
    with killing(signal.SIGSEGV), pytest.raises(SolverCrashed, match=r"SIGSEGV.*the relaxation survives") as crash:
        score(CASE.model, CASE.images, CASE.labels, SETTINGS)
    assert len(str(crash.value).splitlines()) == 1
    survivor = crash.value.relaxation
    assert isinstance(survivor, Solution)
    assert survivor.certificate.checked
    assert "the relaxation of an integer program: highs" in survivor.certificate.notes[-1]
    check(CASE.model, CASE.images, CASE.labels, survivor)
    relaxed = score(CASE.model, CASE.images, CASE.labels, replace(SETTINGS, relax=True))
    assert survivor.certificate.objective == relaxed.certificate.objective
    assert survivor.certificate.settings == relaxed.certificate.settings


def test_a_crash_error_travels_between_processes_with_what_survives() -> None:
    made = SolverCrashed("highs 1.2.3 crashed")
    made.relaxation = {"kept": 1}
    copied = pickle.loads(pickle.dumps(made))
    assert (str(copied), copied.relaxation) == ("highs 1.2.3 crashed", {"kept": 1})


def test_a_budget_whose_solver_crashes_is_named() -> None:
    scores = {"a": np.array([1.0, 0.5, 0.25]), "b": np.array([0.5, 0.25])}
    with killing(signal.SIGSEGV), pytest.raises(SolverCrashed, match=r"crashed on an integer program \(SIGSEGV"):
        keep_within(scores, [(None, "a", 1.0), ("a", "b", 1.0), ("b", None, 1.0)], 5.0)


def test_no_process_outlives_its_session() -> None:
    session = hard_session()
    session.solve(1.0, 1e-9)
    session.process.start()
    pid = session.process.pid
    assert pid in workers()
    del session
    assert pid not in workers()


def knapsacks() -> bytes:
    """A request that keeps HiGHS busy for longer than the test."""
    rng, columns, rows = np.random.default_rng(0), 200, 60
    weights = rng.integers(100, 10000, (rows, columns)).astype(float)
    starts, indices = np.arange(rows, dtype=np.int32) * columns, np.tile(np.arange(columns, dtype=np.int32), rows)
    request = {
        "options": {"output_flag": False, "threads": 1, "mip_rel_gap": 0.0},
        "costs": -rng.integers(100, 10000, columns).astype(float),
        **{"lower": np.zeros(columns), "upper": np.ones(columns), "whole": np.arange(columns, dtype=np.int32)},
        "rows": [(np.full(rows, -np.inf), weights.sum(axis=1) / 2.3, starts, indices, weights.ravel())],
        "end": time.monotonic() + 120,
    }
    return pickle.dumps(request)


PARENT = """
import os, subprocess, sys
reading, writing = os.pipe()
command = [sys.executable, "-P", sys.argv[1], str(writing), str(os.getpid()), "highspy"]
child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=(writing,), bufsize=0)
child.stdin.write(open(sys.argv[2], "rb").read())
print(child.pid, flush=True)
child.wait()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_solver_ends_when_whoever_started_it_is_gone(number: int, tmp_path: Path) -> None:
    request = tmp_path / "request"
    request.write_bytes(knapsacks())
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(WORKER), str(request)],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "start_new_session": True},
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    busy = Path(f"/proc/{pid}/stat")
    deadline = time.monotonic() + 60
    while int(busy.read_text().rpartition(")")[2].split()[11]) < 100:  # a second of CPU time: it is solving
        assert time.monotonic() < deadline
        time.sleep(0.1)
    if number == signal.SIGINT:
        os.killpg(parent.pid, number)  # as Ctrl-C does
    else:
        os.kill(parent.pid, number)
    parent.wait(10)
    while busy.exists() and busy.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "the solver outlived its parent"
        time.sleep(0.1)
    parent.stdout.close()


def test_a_solver_that_ignores_its_time_limit_is_ended_a_little_after_it() -> None:
    session = hard_session()
    while session.process.pid is None:
        session.solve(1.0, 1e-9)
    os.kill(session.process.pid, signal.SIGSTOP)  # nothing that it does by itself can end it
    started = time.monotonic()
    answer = session.solve(1.0, 1e-9)
    assert (answer.point, answer.complete) == (None, False)
    assert answer.bound == -np.inf
    assert time.monotonic() - started < BUSY
    assert workers() == []


def test_the_solver_process_loads_neither_torch_nor_linopy() -> None:
    words = ["-X", "importtime", "-P", str(WORKER), "1", str(os.getpid()), "highspy"]
    said = subprocess.run([sys.executable, *words], input=b"", capture_output=True, check=True).stderr.decode()
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in said.splitlines()}
    assert {"highspy", "numpy"} <= loaded
    assert not {"torch", "linopy", "formulation", "xarray", "pandas", "scipy"} & loaded
