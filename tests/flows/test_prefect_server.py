"""Prefect server of a flow, and proxies of the environment: it works, or it is one line."""

import os
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL

from flows.errors import ServerError
from flows.prefect_server import DIRECT, PROXIES, leave_out_proxies
from tests.flows.backends.servers import free_port
from tests.flows.resume.killed import Trouble, run
from tests.flows.small_run import store_in

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


@pytest.mark.slow
def test_a_flow_asks_a_named_server_although_a_proxy_that_does_not_answer_is_named(
    prefect_server: None, tmp_path: Path
) -> None:
    environment = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), f"http://127.0.0.1:{free_port()}")
    environment["PREFECT_API_URL"] = str(PREFECT_API_URL.value())
    code = run(Trouble(), tmp_path, [*TRAIN, "--tracking_uri", store_in(tmp_path)], environment)
    assert code == 0, (tmp_path / "log").read_text()
