"""A running Dask cluster: refused before any work where it cannot do it, and one line where it goes away."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from flows.config.settings import Settings
from flows.errors import FlowError, SettingsError
from flows.execution.mapping import map_tasks
from flows.execution.runners import require_runner
from tests.busy import BUSY
from tests.flows.backends.servers import free_port
from tests.flows.execution.runners import trials
from tests.flows.execution.runners.clusters import Cluster
from tests.flows.small_run import store_in

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ANSWER = 5.0 + BUSY  # seconds in which an address where nobody listens is refused


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    started = Cluster(tmp_path)
    try:
        yield started
    finally:
        started.close()


def _settings(place: Path, address: str) -> Settings:
    return trials.settings(place, task_runner="dask", dask_address=address)


def _refusal(settings: Settings, store: str) -> str:
    with pytest.raises(SettingsError) as refusal:
        require_runner(settings, store)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_an_address_where_nobody_listens_is_refused_soon(tmp_path: Path) -> None:
    address, start = f"tcp://127.0.0.1:{free_port()}", time.monotonic()
    assert _refusal(_settings(tmp_path, address), store_in(tmp_path)).startswith(
        f"dask_address={address}: no Dask scheduler answers within 5 s; start one with `PYTHONPATH="
    )
    assert time.monotonic() - start < ANSWER
    assert "no Dask scheduler answers" in _refusal(_settings(tmp_path, "nonsense://here"), store_in(tmp_path))


def test_a_cluster_without_workers_or_with_one_that_lacks_the_project_is_refused_with_the_command_that_helps(
    tmp_path: Path, cluster: Cluster
) -> None:
    cluster.scheduler()
    settings = _settings(tmp_path, cluster.address)
    assert (
        f"has no worker: start one (`PYTHONPATH={Path.cwd()} dask worker {cluster.address} --nthreads 1`"
        in _refusal(settings, store_in(tmp_path))
    )
    # Importing Dask sets its loggers' levels, so it is quietened afterwards.
    assert {logging.getLogger(name).level for name in ("distributed", "distributed.client")} == {logging.CRITICAL}
    cluster.worker(pythonpath="")
    said = _refusal(settings, store_in(tmp_path))
    assert "its worker tcp://127.0.0.1:" in said
    assert "cannot import this project: end it, and start one (`PYTHONPATH=" in said


def test_a_worker_with_another_version_of_a_package_is_refused_with_both_versions(
    tmp_path: Path, cluster: Cluster
) -> None:
    described = tmp_path / "other" / "torch-1.0.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 1.0\n")
    cluster.scheduler()
    cluster.worker(pythonpath=f"{described.parent}:{Path.cwd()}")
    said = _refusal(_settings(tmp_path, cluster.address), store_in(tmp_path))
    assert "its worker tcp://127.0.0.1:" in said
    assert (
        f"has another torch (1.0) than this process ({version('torch')}): end it, and start one (`PYTHONPATH=" in said
    )


def test_a_worker_that_goes_is_replaced_by_others_and_the_last_one_or_the_scheduler_end_the_flow_in_one_line(
    prefect_server: None, tmp_path: Path, cluster: Cluster
) -> None:
    scheduler = cluster.scheduler()
    workers = [cluster.worker(), cluster.worker()]
    settings = _settings(tmp_path, cluster.address)
    require_runner(settings, store_in(tmp_path))

    def mapped(place: str, seconds: float) -> list[int]:
        (tmp_path / place).mkdir()
        calls = [(settings, str(tmp_path / place), number, seconds) for number in range(4)]
        return map_tasks(settings, trials.rest, calls, names=[f"set {number}" for number in range(4)])

    _after_first(tmp_path / "one", lambda: cluster.kill(workers[0]))
    assert mapped("one", 2.0) == [0, 10, 20, 30]
    _after_first(tmp_path / "none", lambda: cluster.kill(workers[1]))
    with pytest.raises(FlowError) as raised:
        mapped("none", 3.0)
    assert str(raised.value).startswith(f"no Dask worker is left at {cluster.address}: start one (`PYTHONPATH=")
    assert str(raised.value).endswith("what was finished is kept and the same command goes on")
    cluster.worker()
    require_runner(settings, store_in(tmp_path))
    _after_first(tmp_path / "away", lambda: cluster.kill(scheduler))
    start = time.monotonic()
    with pytest.raises(FlowError) as raised:
        mapped("away", 3.0)
    assert str(raised.value).startswith(
        f"the Dask scheduler at {cluster.address} went away: start it again (`PYTHONPATH="
    )
    assert time.monotonic() - start < BUSY


def _after_first(place: Path, act: Callable[[], None]) -> None:
    """Act once the first call in a folder has ended."""

    def watch() -> None:
        end = time.monotonic() + 120
        while not trials.intervals(place) and time.monotonic() < end:
            time.sleep(0.1)
        act()

    threading.Thread(target=watch, daemon=True).start()
