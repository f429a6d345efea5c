"""Ctrl-C and SIGTERM in a real process: no run is left RUNNING, no server is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from prefect.settings import PREFECT_API_URL

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SCORING = ("--gate", "exact", "--relax", "false", "--epochs", "5", "--scoring_sets", "2", "--images_per_class", "1")
TRAINING = ("--epochs", "100000")


@pytest.mark.parametrize(
    ("number", "words", "sign"),
    [(signal.SIGINT, SCORING, "set 2, round"), (signal.SIGTERM, TRAINING, "epoch 3 of")],
    ids=["ctrl_c_while_two_threads_solve", "sigterm_while_training"],
)
def test_an_interrupted_flow_ends_its_runs_as_killed(
    prefect_server: None, tmp_path: Path, number: signal.Signals, words: tuple[str, ...], sign: str
) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    command = [sys.executable, "-u", "-m", "flows", "main", "--tracking_uri", uri, *words]
    # The tests' Prefect server, because a server of its own takes long to start.
    environment = {**os.environ, "PREFECT_API_URL": PREFECT_API_URL.value(), "OMP_NUM_THREADS": "1"}
    log, errors = tmp_path / "log", tmp_path / "errors"
    with log.open("w") as out, errors.open("w") as err:
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err, env=environment)
    try:
        _wait_for(sign, log, process)
        process.send_signal(number)
        assert process.wait(60) == 130
    finally:
        process.kill()
    assert errors.read_text() == "interrupted: every open run has been ended as KILLED\n"
    client = MlflowClient(uri)
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    statuses = {run.info.run_name: run.info.status for run in runs}
    assert statuses.pop("train") == ("FINISHED" if words is SCORING else "KILLED")
    assert set(statuses.values()) == {"KILLED"}


def _wait_for(sign: str, log: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 150
    while sign not in log.read_text():
        assert process.poll() is None, log.with_name("errors").read_text()
        assert time.monotonic() < deadline, f"no {sign!r} in the log: {log.read_text()}"
        time.sleep(0.2)
