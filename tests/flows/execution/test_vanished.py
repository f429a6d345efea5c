"""Errors of services that went away, as real clients raise them at an address where nobody answers."""

import asyncio
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial

import httpx
import pytest
from distributed.comm import connect
from distributed.comm.addressing import get_address_host_port
from mlflow import MlflowClient
from mlflow.store.db.utils import create_sqlalchemy_engine

from flows.errors import ClusterError, FlowError, ServerError, SettingsError, StoreError
from flows.execution.vanished import Services, vanishing
from tests.flows.backends.servers import free_port


@pytest.fixture
def listening() -> Iterator[int]:
    """A port that takes connections, and says nothing."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def _services(port: int) -> Services:
    return Services(f"http://127.0.0.1:{port}", f"tcp://127.0.0.1:{port}")


def _prefect(port: int) -> None:
    httpx.get(f"http://127.0.0.1:{port}/api")


def _mlflow(port: int) -> None:
    MlflowClient(f"http://127.0.0.1:{port}").search_experiments()


def _database(port: int) -> None:
    create_sqlalchemy_engine(f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/mlflow").connect()


def _dask(port: int, seconds: float = 1) -> None:
    asyncio.run(connect(f"tcp://127.0.0.1:{port}", timeout=seconds))


@pytest.mark.parametrize(
    ("ask", "kind", "words"),
    [
        (_prefect, ServerError, "Prefect server"),
        (_mlflow, StoreError, "tracking store http://127.0.0.1"),
        (_database, StoreError, "tracking store http://127.0.0.1"),
        (_dask, ClusterError, "the Dask scheduler at tcp://127.0.0.1"),
    ],
)
def test_what_a_client_says_of_a_service_that_is_gone_is_one_line_with_the_service_and_the_remedy(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[[int], None], kind: type[FlowError], words: str
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    port = free_port()
    with pytest.raises(kind) as raised, vanishing(_services(port)):
        ask(port)
    assert str(raised.value).startswith(words)
    assert "went away" in str(raised.value)
    assert "the same command goes on" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.__cause__ is not None


def test_an_error_on_the_way_to_another_is_found_behind_it() -> None:
    port = free_port()

    def ask() -> None:
        try:
            _prefect(port)
        except httpx.TransportError as error:
            raise RuntimeError("the engine stopped") from error

    with pytest.raises(ServerError), vanishing(_services(port)):
        ask()


def test_an_error_of_a_client_is_the_services_only_where_that_does_not_answer(listening: int) -> None:
    wrong = partial(get_address_host_port, "nonsense")
    with pytest.raises(ValueError, match="nonsense"), vanishing(_services(listening)):
        wrong()
    with pytest.raises(ClusterError), vanishing(_services(free_port())):
        wrong()


def test_an_error_of_ones_own_stays_as_it_is_whatever_does_not_answer() -> None:
    services = _services(free_port())
    with pytest.raises(ZeroDivisionError), vanishing(services):
        _ = 1 / 0
    # Nor is it a service's where something else cannot be reached.
    with pytest.raises(urllib.error.URLError), vanishing(services):
        urllib.request.urlopen(services.store)
    refused = SettingsError("epochs=-1: give 0 or more")
    with pytest.raises(SettingsError) as raised, vanishing(services):
        raise refused
    assert raised.value is refused


# Refused connections come as an error of distributed's own, an attempt that ran out of time as a plain OSError.
@pytest.mark.parametrize("seconds", [1, 1e-9])
def test_the_cluster_of_a_flow_itself_is_named_without_an_address(seconds: float) -> None:
    port = free_port()
    with pytest.raises(ClusterError, match=r"^the Dask cluster of this flow went away"), vanishing(Services("x")):
        _dask(port, seconds)


def test_an_attempt_that_ran_out_of_time_at_an_address_that_answers_is_not_the_clusters(listening: int) -> None:
    with pytest.raises(OSError, match="Timed out"), vanishing(Services("x")):
        _dask(listening, 1e-9)


def test_the_line_about_a_store_shows_no_password_and_no_token() -> None:
    store = f"http://someone:secret@127.0.0.1:{free_port()}/mlflow?token=hidden"
    with pytest.raises(StoreError) as raised, vanishing(Services(store)):
        create_sqlalchemy_engine(f"postgresql+psycopg2://someone:secret@127.0.0.1:{free_port()}/mlflow").connect()
    assert "127.0.0.1" in str(raised.value)
    assert "secret" not in str(raised.value)
    assert "hidden" not in str(raised.value)
