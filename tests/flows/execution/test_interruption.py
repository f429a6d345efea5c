"""Ctrl-C and SIGTERM in a real process: no run is left RUNNING, no server is left behind."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from mlflow import MlflowClient
from prefect.settings import PREFECT_API_URL

from tests.flows.resume.killed import Trouble, start
from tests.flows.small_run import store_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[3]
SCORING = (
    *("--gate", "exact", "--relax", "false", "--loss_weight", "5", "--epochs", "5"),
    *("--scoring_sets", "2", "--images_per_class", "1"),
)
TRAINING = ("--epochs", "100000")
BEGUN, ENDED = 500.0, 120.0  # seconds that a flow may take to begin its work, and to end, on busy cores


@pytest.mark.parametrize(
    ("number", "words", "sign"),
    [(signal.SIGINT, SCORING, "set 2, round"), (signal.SIGTERM, TRAINING, "epoch 3 of")],
    ids=["ctrl_c_while_two_threads_solve", "sigterm_while_training"],
)
def test_an_interrupted_flow_ends_its_runs_as_killed(
    prefect_server: None, tmp_path: Path, number: signal.Signals, words: tuple[str, ...], sign: str
) -> None:
    uri = store_in(tmp_path)
    # The tests' Prefect server, because a server of its own takes long to start.
    environment = {"PREFECT_API_URL": PREFECT_API_URL.value(), "CRITICAL_NEURONS_CACHE": str(tmp_path / "cache")}
    given = ["main", "--tracking_uri", uri, *words]
    process, log = start(Trouble(), tmp_path, given, environment | {"OMP_NUM_THREADS": "1"}), tmp_path / "log"
    assert process.pid
    try:
        _wait_for(sign, log, process)
        os.kill(process.pid, number)
        process.join(ENDED)
        assert process.exitcode == 130
    finally:
        process.kill()
    said = log.read_text()
    assert said.endswith("\ninterrupted: every open run has been ended as KILLED\n")
    assert "Traceback" not in said
    client = MlflowClient(uri)
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    statuses = {run.info.run_name: run.info.status for run in runs}
    assert statuses.pop("train") == ("FINISHED" if words is SCORING else "KILLED")
    assert set(statuses.values()) == {"KILLED"}


def _wait_for(sign: str, log: Path, process: BaseProcess) -> None:
    deadline = time.monotonic() + BEGUN
    while not log.exists() or sign not in log.read_text():
        assert process.exitcode is None, log.read_text()
        assert time.monotonic() < deadline, f"no {sign!r} in the log: {log.read_text()}"
        time.sleep(0.2)


@pytest.mark.parametrize(
    "numbers", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)], ids=["ctrl_c_twice", "sigterm"]
)
def test_an_interruption_of_what_is_still_being_imported_is_one_line(
    tmp_path: Path, numbers: tuple[signal.Signals, ...]
) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    command = [sys.executable, "-u", "-m", "flows", "train", "--tracking_uri", uri]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            # One of the first libraries of those that take seconds.
            while "pydantic_core" not in Path(f"/proc/{process.pid}/maps").read_text():
                time.sleep(0.01)
            time.sleep(2.0)
            for number in numbers:
                process.send_signal(number)
            said, _ = process.communicate(timeout=ENDED)
        finally:
            process.kill()
    assert process.returncode == 130
    assert said.partition("\n")[2] == "interrupted\n", said
    assert not (tmp_path / "mlflow.db").exists()
