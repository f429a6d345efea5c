"""Ctrl-C and kill -9 of a flow whose programs are solved in other processes: none goes on, and no run stays open."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from mlflow import MlflowClient
from prefect.settings import PREFECT_API_URL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

ROOT = Path(__file__).resolve().parents[3]
SCORING = ("--gate", "exact", "--relax", "false", "--epochs", "5", "--scoring_sets", "2", "--images_per_class", "1")
ENDED = 20.0  # seconds in which workers have to be gone


@contextmanager
def _started(place: Path, runner: str) -> Iterator[subprocess.Popen[bytes]]:
    """A flow in a session of its own, as a terminal's, that has begun to solve; all of it is gone after the block."""
    uri = f"sqlite:///{place / 'mlflow.db'}"
    command = [sys.executable, "-u", "-m", "flows", "main", "--tracking_uri", uri, "--task_runner", runner, *SCORING]
    environment = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value(), "OMP_NUM_THREADS": "1"}
    log, errors = place / "log", place / "errors"
    with log.open("w") as out, errors.open("w") as err:
        flow = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err, env=environment, start_new_session=True)
    try:
        end = time.monotonic() + 300
        while "round 0" not in log.read_text():
            assert flow.poll() is None, errors.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        yield flow
    finally:
        # What is left would keep the machine's cores from other solvers.
        for number in _session(flow.pid):
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        flow.wait()


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
        assert flow.wait(60) == 130
        _wait_until_gone(flow.pid)
    assert (tmp_path / "errors").read_text() == "interrupted: every open run has been ended as KILLED\n"
    statuses = _statuses(tmp_path)
    assert statuses.pop("train") == "FINISHED"
    assert {"scoring set 1", "scoring set 2"} & set(statuses)
    assert set(statuses.values()) == {"KILLED"}


@pytest.mark.parametrize("runner", ["processes", "dask"])
def test_workers_of_a_killed_flow_end(prefect_server: None, tmp_path: Path, runner: str) -> None:
    with _started(tmp_path, runner) as flow:
        flow.kill()
        flow.wait()
        _wait_until_gone(flow.pid)
