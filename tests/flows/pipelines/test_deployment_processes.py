"""Deployments with a real Prefect server, a real worker and real processes: finished, cancelled, and left alone."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL, temporary_settings

from tests.flows.backends.commands import QUICK
from tests.flows.pipelines.deployment_commands import DEPLOY, POOL, STATUS, WORKER
from tests.flows.small_run import store_in

ROOT = Path(__file__).resolve().parents[3]
PREFECT = str(Path(sys.executable).with_name("prefect"))
LONG = {
    **{"gate": "exact", "relax": "false", "loss_weight": "5", "epochs": "5"},
    **{"scoring_sets": "2", "images_per_class": "1"},
}
SCORING = "set 2, round 1"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@contextmanager
def process(
    command: tuple[str, ...], log: Path, environment: Mapping[str, str], cwd: Path
) -> Iterator[subprocess.Popen]:
    """A process in a group of its own, of which nothing is left behind."""
    with log.open("w") as out:
        started = subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield started
    finally:
        for number, patience in ((signal.SIGTERM, 20), (signal.SIGKILL, 20)):
            try:
                os.killpg(started.pid, number)
                started.wait(patience)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def wait_for(what: str, happened: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.3)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a fresh clone has it: in a folder of its own, without anything that git ignores."""
    tmp_path = tmp_path_factory.mktemp("deployed")
    kept = shutil.ignore_patterns(".*", "__pycache__", "mlflow.db*", "mlruns", "docs", "tests", "benchmarks")
    shutil.copytree(ROOT, tmp_path / "project", ignore=kept)
    return tmp_path


@pytest.fixture(scope="module")
def environment(place: Path) -> dict[str, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_"))}
    own = {
        "PREFECT_HOME": str(place / "home"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "MLFLOW_TRACKING_URI": store_in(place),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    return {**outside, **own}


@pytest.fixture(scope="module")
def server(place: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen]:
    address = environment["PREFECT_API_URL"]
    port = address.rpartition(":")[2].removesuffix("/api")
    with process((PREFECT, "server", "start", "--port", port), place / "server", environment, place) as started:
        command(place, environment, *STATUS)
        yield started


@pytest.fixture
def prefect(server: subprocess.Popen, environment: dict[str, str]) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: environment["PREFECT_API_URL"]}), get_client(sync_client=True) as client:
        yield client


def command(place: Path, environment: dict[str, str], *words: str) -> str:
    done = subprocess.run(
        [PREFECT, *words],
        cwd=place / "project",
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def runs_of(place: Path, but: Collection[str] = ()) -> dict[str, MlflowRun]:
    """The store's runs by their ids, but for those named."""
    client = MlflowClient(f"sqlite:///{place / 'mlflow.db'}")
    runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    return {run.info.run_id: run for run in runs if run.info.run_id not in but}


def statuses(place: Path, but: Collection[str] = ()) -> dict[str, str]:
    return {run.info.run_name: run.info.status for run in runs_of(place, but).values()}


def is_known(prefect: SyncPrefectClient, deployment: str) -> bool:
    try:
        return bool(prefect.read_deployment_by_name(deployment))
    except ObjectNotFound:
        return False


def cancel_while_scoring(
    place: Path, environment: dict[str, str], prefect: SyncPrefectClient, name: str, seed: str
) -> None:
    """Start a deployment, cancel it in the middle of scoring, and see that everything says and does so.

    With the seed of a run that was cancelled before, that one would go on.
    """
    words = [word for key, value in {**LONG, "seed": seed}.items() for word in ("--param", f"{key}={value}")]
    before, earlier = len((place / "log").read_text()), set(runs_of(place))
    command(place, environment, "deployment", "run", name, *words)
    wait_for(SCORING, lambda: SCORING in (place / "log").read_text()[before:], 240)
    [flow_run] = [run for run in prefect.read_flow_runs() if run.state and run.state.is_running()]
    tags = [run.data.tags for run in runs_of(place, earlier).values()]
    [owner] = {each["process"] for each in tags if each.get("prefect.flow_run") == str(flow_run.id)}
    number = int(owner.split()[-2])  # before its beginning
    command(place, environment, "flow-run", "cancel", str(flow_run.id))
    wait_for("the end of the process", lambda: not _is_alive(number), 30)
    wait_for("Cancelled", lambda: prefect.read_flow_run(flow_run.id).state.is_cancelled(), 90)
    ended = statuses(place, earlier)
    [top] = [name for name in ended if name.endswith(" (main: lenet5 on digits)")]
    assert {ended[name] for name in ("score", "scoring set 1", "scoring set 2", top)} == {"KILLED"}
    assert "RUNNING" not in ended.values()


def _is_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


def test_seven_commands_lead_to_a_finished_run_and_a_second_one_can_be_cancelled(
    place: Path, environment: dict[str, str], prefect: SyncPrefectClient
) -> None:
    earlier = set(runs_of(place))
    command(place, environment, *POOL)
    command(place, environment, *DEPLOY)
    with process((PREFECT, *WORKER), place / "log", environment, place):
        words = [word for key, value in QUICK.items() for word in ("--param", f"{key}={value}")]
        said = command(place, environment, "deployment", "run", "main/main", *words, "--watch")
        assert "Flow run finished successfully in 'Completed'" in said, (place / "log").read_text()
        assert set(statuses(place, earlier).values()) == {"FINISHED"}
        cancel_while_scoring(place, environment, prefect, "main/main", "1")


def test_a_served_run_can_be_cancelled(place: Path, environment: dict[str, str], prefect: SyncPrefectClient) -> None:
    serve = (sys.executable, "-m", "flows", "serve")
    with process(serve, place / "log", environment, place / "project") as serving:
        wait_for("the deployments", lambda: is_known(prefect, "main/served"), 150)
        assert "main/served" in command(place, environment, "deployment", "ls")
        cancel_while_scoring(place, environment, prefect, "main/served", "2")
        serving.send_signal(signal.SIGINT)
        assert serving.wait(60) == 0
        assert (place / "log").read_text().endswith("serving has ended\n")
        assert "never awaited" not in (place / "log").read_text()
