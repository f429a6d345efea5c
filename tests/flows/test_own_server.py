"""Prefect server of a flow's own: begun before what takes seconds, ended with the flow, and one line where it fails."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE, temporary_settings

from flows.__main__ import main
from flows.errors import ServerError
from flows.own_server import begin_own_server, end_own_server, own_server_address, own_server_answering
from flows.prefect_server import server_address
from tests.busy import BUSY
from tests.flows.backends.servers import free_port
from tests.flows.resume.killed import Trouble, run, start
from tests.flows.small_run import store_in

ROOT = Path(__file__).resolve().parents[2]
SOON = 15.0 + BUSY  # seconds
TRAIN = ("train", "--model", "fc2", "--epochs", "1", "--limit", "200", "--cache", "none")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Prefect's folder, in which the first server makes its database, which takes it most of its time."""
    return str(tmp_path_factory.mktemp("prefect"))


@pytest.fixture
def no_server_named(home: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", home)
    end_own_server()  # another test's
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        yield
        end_own_server()


def _servers(home: str) -> list[psutil.Process]:
    """The servers of flows that keep what they know in a folder."""
    found = []
    for each in psutil.process_iter():
        with suppress(psutil.Error):
            if each.environ().get("PREFECT_HOME") == home and "prefect_process" in str(each.cmdline()):
                found.append(each)
    return found


def _wait_for(what: str, happened: Callable[[], object]) -> None:
    end = time.monotonic() + SOON
    while not happened():
        assert time.monotonic() < end, f"not within {SOON} s: {what}"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.usefixtures("no_server_named")
def test_it_is_begun_once_and_prefect_asks_it_where_it_is_waited_for(home: str) -> None:
    assert own_server_address() == server_address() == ""
    begin_own_server()
    address = own_server_address()
    begin_own_server()
    assert own_server_address() == server_address() == address
    assert not PREFECT_API_URL.value()
    with own_server_answering():
        assert PREFECT_API_URL.value() == address
        assert httpx.get(f"{address}/health", timeout=SOON, trust_env=False).json() is True
        assert len(_servers(home)) == 1
    end_own_server()
    assert own_server_address() == ""
    _wait_for("its end", lambda: not _servers(home))


def test_none_is_begun_where_one_is_named() -> None:
    end_own_server()  # another test's
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}):
        begin_own_server()
        assert own_server_address() == ""
        with own_server_answering():
            assert PREFECT_API_URL.value() == "http://127.0.0.1:1/api"


@pytest.mark.usefixtures("no_server_named")
def test_one_that_nobody_may_start_is_refused_in_one_line() -> None:
    with (
        temporary_settings({PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False}),
        pytest.raises(ServerError, match="EPHEMERAL_MODE forbids") as raised,
    ):
        begin_own_server()
    assert "\n" not in str(raised.value)


@pytest.mark.usefixtures("no_server_named")
def test_none_is_left_by_a_command_that_is_refused(
    home: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["main", "--dataset", "folder:no/such/folder", "--tracking_uri", f"sqlite:///{tmp_path / 'mlflow.db'}"]
    assert main(words) == 2
    assert "image folder no/such/folder does not exist" in capsys.readouterr().err
    assert own_server_address() == ""
    assert not _servers(home)


@pytest.mark.usefixtures("no_server_named")
def test_one_that_ends_before_it_answers_is_one_line_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = f"postgresql+asyncpg://nobody:hidden@127.0.0.1:{free_port()}/none"
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", nowhere)
    begin_own_server()
    with pytest.raises(ServerError, match=r"own Prefect server did not start \(.+\): start one with") as raised:
        own_server_answering().__enter__()
    said = str(raised.value)
    assert "\n" not in said
    assert "hidden" not in said
    assert "ConnectionRefused" in said
    assert own_server_address() == ""


@pytest.mark.slow
@pytest.mark.usefixtures("no_server_named")
def test_one_that_a_database_keeps_waiting_ends_all_the_same(home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(SOON)
        nowhere = f"postgresql+asyncpg://nobody@127.0.0.1:{silent.getsockname()[1]}/none"
        monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", nowhere)
        begin_own_server()
        connection, _ = silent.accept()
        with connection:
            end_own_server()
            _wait_for("its end", lambda: not _servers(home))


@pytest.mark.slow
def test_it_answers_a_process_whose_standard_input_is_closed(home: str) -> None:
    program = (
        "import os; os.close(0); from flows.own_server import begin_own_server, own_server_answering; "
        "begin_own_server(); own_server_answering().__enter__(); print('it answers')"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment | {"PREFECT_HOME": home},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "it answers\n"), done.stderr


@pytest.mark.slow
def test_it_goes_with_a_flow_that_is_killed(home: str, tmp_path: Path) -> None:
    # Begun before what the flow imports, so it is there soon.
    flow = start(Trouble(), tmp_path, [*TRAIN, "--tracking_uri", store_in(tmp_path)], _alone(home))
    _wait_for("the server", lambda: _servers(home))
    os.kill(flow.pid or 0, signal.SIGKILL)
    flow.join()
    _wait_for("its end", lambda: not _servers(home))


@pytest.mark.slow
def test_one_that_is_too_slow_is_one_line_with_the_remedy(home: str, tmp_path: Path) -> None:
    slow = _alone(home) | {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "1"}
    assert run(Trouble(), tmp_path, ["help"], {}) is not None  # waits for the process that others are forked from
    begun = time.monotonic()
    code = run(Trouble(), tmp_path, [*TRAIN, "--tracking_uri", store_in(tmp_path)], slow)
    assert time.monotonic() - begun < SOON
    said = (tmp_path / "log").read_text()
    assert code == 2, said
    [line] = [each for each in said.splitlines() if each.startswith("error: ") and "unknown flow" not in each]
    assert line.startswith("error: this flow's own Prefect server did not start within 1 s")
    assert "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS" in line
    assert "PREFECT_API_URL" in line
    assert "Traceback" not in said
    _wait_for("the server's end", lambda: not _servers(home))


@pytest.mark.slow
def test_a_flow_asks_its_own_although_a_proxy_that_does_not_answer_is_named(home: str, tmp_path: Path) -> None:
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), f"http://127.0.0.1:{free_port()}")
    code = run(Trouble(), tmp_path, [*TRAIN, "--tracking_uri", store_in(tmp_path)], _alone(home) | proxies)
    assert code == 0, (tmp_path / "log").read_text()


def _alone(home: str) -> dict[str, str]:
    return {"PREFECT_API_URL": "", "PREFECT_HOME": home}
