"""Ctrl-C and kill -9 of a flow whose programs are solved in other processes: none goes on, and no run stays open."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from mlflow import MlflowClient
from prefect.settings import PREFECT_API_URL

from tests.flows.resume.killed import Trouble, start
from tests.flows.small_run import store_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SCORING = (
    *("--gate", "exact", "--relax", "false", "--loss_weight", "5", "--epochs", "5"),
    *("--scoring_sets", "2", "--images_per_class", "1"),
)
BEGUN, ENDED = 500.0, 60.0  # seconds that a flow may take to begin to solve, and its workers to be gone, on busy cores


@contextmanager
def _started(place: Path, runner: str) -> Iterator[BaseProcess]:
    """A flow in a session of its own, as a terminal's, that has begun to solve; all of it is gone after the block."""
    words = ["main", "--tracking_uri", store_in(place), "--task_runner", runner, *SCORING]
    environment = {"PREFECT_API_URL": PREFECT_API_URL.value(), "CRITICAL_NEURONS_CACHE": str(place / "cache")}
    flow, log = start(Trouble(), place, words, environment | {"OMP_NUM_THREADS": "1"}), place / "log"
    try:
        end = time.monotonic() + BEGUN
        while not log.exists() or "round 0" not in log.read_text():
            assert flow.exitcode is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        yield flow
    finally:
        # What is left would keep the machine's cores from other solvers.
        for number in _session(flow.pid):
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        flow.join()


def _session(number: int) -> list[int]:
    """The processes of a session that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(session) == number and state != "Z":
            found.append(int(stat.parent.name))
    return found


def _wait_until_gone(session: int) -> None:
    end = time.monotonic() + ENDED
    while left := _session(session):
        assert time.monotonic() < end, left
        time.sleep(0.2)


def _statuses(place: Path) -> dict[str, str]:
    client = MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    return {run.info.run_name: run.info.status for run in runs}


@pytest.mark.parametrize("runner", ["processes", "dask"])
def test_ctrl_c_ends_workers_and_every_run(prefect_server: None, tmp_path: Path, runner: str) -> None:
    with _started(tmp_path, runner) as flow:
        # A terminal's Ctrl-C goes to all of its processes.
        os.killpg(flow.pid, signal.SIGINT)
        flow.join(2 * ENDED)
        assert flow.exitcode == 130
        _wait_until_gone(flow.pid)
    said = (tmp_path / "log").read_text()
    assert said.endswith("\ninterrupted: every open run has been ended as KILLED\n")
    assert "Traceback" not in said
    assert "Warning" not in said
    statuses = _statuses(tmp_path)
    assert statuses.pop("train") == "FINISHED"
    assert {"scoring set 1", "scoring set 2"} & set(statuses)
    assert set(statuses.values()) == {"KILLED"}


@pytest.mark.parametrize("runner", ["processes", "dask"])
def test_workers_of_a_killed_flow_end(prefect_server: None, tmp_path: Path, runner: str) -> None:
    with _started(tmp_path, runner) as flow:
        flow.kill()
        flow.join()
        _wait_until_gone(flow.pid)
