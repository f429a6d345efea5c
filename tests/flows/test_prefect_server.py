"""Prefect server of a flow's own, and proxies of the environment: it works, or it is one line."""

import os
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE, temporary_settings

from flows.errors import ServerError
from flows.prefect_server import DIRECT, PROXIES, leave_out_proxies, start_server
from tests.flows.backends.servers import free_port
from tests.flows.resume.killed import Trouble, run
from tests.flows.small_run import store_in

SOON = 60.0  # seconds, on a busy machine
TRAIN = ("train", "--model", "fc2", "--epochs", "1", "--limit", "200", "--cache", "none")


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in (*PROXIES, "NO_PROXY"):
        for each in (name, name.lower()):
            # Set first, so that what the code sets is put back as well.
            monkeypatch.setenv(each, "")
            monkeypatch.delenv(each)
    return monkeypatch


def test_without_a_proxy_the_environment_stays_as_it_is(no_proxies: pytest.MonkeyPatch) -> None:
    before = dict(os.environ)
    leave_out_proxies()
    assert dict(os.environ) == before


@pytest.mark.parametrize("name", [*PROXIES, *map(str.lower, PROXIES)])
def test_servers_of_this_machine_are_asked_directly_whatever_proxy_is_named(
    no_proxies: pytest.MonkeyPatch, name: str
) -> None:
    no_proxies.setenv(name, "http://proxy.invalid:3128")
    no_proxies.setenv("NO_PROXY", "example.org")
    leave_out_proxies()
    leave_out_proxies()
    assert os.environ["NO_PROXY"] == ",".join(("example.org", *DIRECT))
    assert os.environ["no_proxy"] == ",".join(DIRECT)


@pytest.mark.parametrize("proxy", ["socks5://proxy.invalid:1080", "ftp://proxy.invalid"])
def test_a_proxy_that_no_client_can_use_is_refused_in_one_line(no_proxies: pytest.MonkeyPatch, proxy: str) -> None:
    no_proxies.setenv("ALL_PROXY", proxy)
    with pytest.raises(ServerError, match=r"^the proxy of ALL_PROXY cannot be used \(.+\): unset it") as raised:
        leave_out_proxies()
    assert "\n" not in str(raised.value)


def test_a_server_that_nobody_may_start_is_refused_in_one_line() -> None:
    alone = {PREFECT_API_URL: None, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False}
    with temporary_settings(alone), pytest.raises(ServerError, match="EPHEMERAL_MODE forbids") as raised:
        start_server()
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_a_server_of_the_flows_own_that_is_too_slow_is_one_line_with_the_remedy(tmp_path: Path) -> None:
    slow = {
        "PREFECT_API_URL": "",
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "1",
    }
    assert run(Trouble(), tmp_path, ["help"], {}) is not None  # waits for the process that others are forked from
    start = time.monotonic()
    code = run(Trouble(), tmp_path, [*TRAIN, "--tracking_uri", store_in(tmp_path)], slow)
    assert time.monotonic() - start < SOON
    said = (tmp_path / "log").read_text()
    assert code == 2, said
    [line] = [each for each in said.splitlines() if each.startswith("error: ") and "unknown flow" not in each]
    assert line.startswith("error: this flow's own Prefect server did not start within 1 s")
    assert "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS" in line
    assert "PREFECT_API_URL" in line
    assert "Traceback" not in said
    assert not _those_with("PREFECT_HOME", slow["PREFECT_HOME"]), "a server is left behind"


@pytest.mark.slow
@pytest.mark.parametrize("named", [True, False], ids=["a named server", "a server of the flow's own"])
def test_a_flow_works_although_a_proxy_that_does_not_answer_is_named(
    prefect_server: None, tmp_path: Path, named: bool
) -> None:
    proxy = f"http://127.0.0.1:{free_port()}"
    environment = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), proxy)
    environment["PREFECT_API_URL"] = (PREFECT_API_URL.value() or "") if named else ""
    environment["PREFECT_HOME"] = str(tmp_path / "prefect")
    code = run(Trouble(), tmp_path, [*TRAIN, "--tracking_uri", store_in(tmp_path)], environment)
    assert code == 0, (tmp_path / "log").read_text()


def _those_with(name: str, value: str) -> list[psutil.Process]:
    """The processes that were started with a variable of that value."""
    found = []
    for each in psutil.process_iter():
        with suppress(psutil.Error):
            if each.environ().get(name) == value:
                found.append(each)
    return found
