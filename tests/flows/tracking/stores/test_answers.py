"""Servers that are away, silent, or of another kind: one line within seconds, before MLflow's own attempts."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
import sqlalchemy
from mlflow import MlflowClient

from flows import tracking
from flows.errors import StoreError
from flows.tracking.stores import answers
from flows.tracking.stores.addresses import shown
from flows.tracking.stores.answers import SECONDS
from tests.busy import BUSY
from tests.flows.backends.commands import command
from tests.flows.backends.servers import free_port, postgresql
from tests.flows.tracking.stores.made import TRIES, open_store, started

SOON = SECONDS + BUSY
SHORT = 2.0  # seconds in place of those, where nothing but waiting is tried
KINDS = {
    "http": "http://127.0.0.1:{}",
    "https": "https://127.0.0.1:{}",
    "postgresql": "postgresql+psycopg2://u@127.0.0.1:{}/d",
}


@contextmanager
def listening(answer: bytes = b"", backlog: int = 16) -> Iterator[int]:
    """The port of a server that takes every connection and answers with these bytes, or never."""
    with closing(socket.create_server(("127.0.0.1", 0), backlog=backlog)) as server:

        def serve() -> None:
            held = []
            with suppress(OSError):
                while True:
                    held.append(server.accept()[0])
                    held[-1].recv(65536)
                    held[-1].sendall(answer)
                    held[-1].close()

        if answer:
            threading.Thread(target=serve, daemon=True).start()
        yield int(server.getsockname()[1])


@contextmanager
def swallowing() -> Iterator[int]:
    """The port of a server whose queue of connections is full: the system drops every further packet for it."""
    with listening(backlog=0) as port:
        clients = [socket.socket() for _ in range(4)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        time.sleep(0.2)
        yield port
        for client in clients:
            client.close()


@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_port_is_refused_at_once(kind: str) -> None:
    _require_refused(KINDS[kind].format(free_port()), "refused", soon=BUSY)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "SECONDS", SHORT)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_never_answers_is_refused_within_seconds(impatient: None, kind: str) -> None:
    with listening() as port:
        _require_refused(KINDS[kind].format(port), "", soon=SHORT + BUSY)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_host_that_swallows_packets_is_refused_within_seconds(impatient: None, kind: str) -> None:
    with swallowing() as port:
        _require_refused(KINDS[kind].format(port), "", soon=SHORT + BUSY)


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_of_another_kind_is_refused_in_one_line(kind: str) -> None:
    with listening(b"SSH-2.0-OpenSSH_9.2\r\n") as port:
        _require_refused(KINDS[kind].format(port), "", soon=SOON)


@pytest.mark.slow
def test_a_web_server_that_is_no_mlflow_is_refused_in_one_line() -> None:
    page = b"HTTP/1.1 404 Not Found\r\nContent-Length: 13\r\nConnection: close\r\n\r\n<html></html>"
    with listening(page) as port, pytest.raises(StoreError, match="cannot be opened") as caught:
        tracking.reach_store(f"http://127.0.0.1:{port}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["http://nobody.invalid:5000", "postgresql+psycopg2://u@nobody.invalid/d"])
def test_a_host_that_nobody_knows_is_refused_within_seconds(kind: str) -> None:
    _require_refused(kind, "", soon=SOON)


@pytest.mark.slow
@pytest.mark.parametrize("flow", ["train", "score"])
def test_a_flow_whose_database_server_is_away_ends_in_one_line_with_code_2(
    prefect_server: None, tmp_path: Path, flow: str
) -> None:
    assert command("train", tmp_path / "first", "sqlite:///", "none").code == 2, "the first makes what others fork from"
    store = f"postgresql+psycopg2://mlflow:secret@127.0.0.1:{free_port()}/mlflow"
    start = time.monotonic()
    ended = command(flow, tmp_path / "flow", store, "none", **({"run_id": "1"} if flow == "score" else {}))
    assert time.monotonic() - start < SECONDS + BUSY
    assert ended.is_refused_in_one_line(), ended.log
    assert "cannot be opened: " in ended.errors[0]
    assert "secret" not in ended.log
    assert [line for line in ended.log.splitlines() if line not in ended.errors] == ["--- none"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_a_real_database_server_has_against_a_store_is_said_in_one_line() -> None:
    with postgresql() as uri:
        server = uri.rpartition("/")[0]
        _require_refused(f"{server}/other", 'database "other" does not exist', soon=SOON)
        _require_refused(uri.replace("mlflow@", "somebody@"), "does not exist", soon=SOON)
        _require_refused(f"{uri}?sslmode=require", "SSL", soon=SOON)
        _require_refused(f"{uri}?nonsense=1", "nonsense", soon=SOON)
        _change(uri, "CREATE ROLE reader LOGIN", "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        with pytest.raises(StoreError, match="permission denied") as caught:
            tracking.open_store(uri.replace("mlflow@", "reader@"), "tests")
        assert "\n" not in str(caught.value)
        tracking.open_store(uri, "tests")
        _change(uri, "UPDATE alembic_version SET version_num = 'fedcba987654'")
        _require_refused(uri, "it is a newer MLflow's", soon=SOON)
        _change(uri, "UPDATE alembic_version SET version_num = 'acf3f17fdcc7'", "DROP TABLE logged_model_params")
        _require_refused(uri, "mlflow db upgrade", soon=SOON)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_first_run_killed_while_a_servers_tables_are_made_leaves_a_store_that_opens() -> None:
    with postgresql() as uri:
        for seconds in (0.3, 0.8, 1.5):
            process = started(open_store, uri)
            time.sleep(seconds)
            process.kill()
            process.join(TRIES)
        store = tracking.open_store(uri, "tests")
        assert MlflowClient(uri).get_experiment(store.experiment_id).name == "tests"


def _require_refused(uri: str, what: str, soon: float) -> None:
    for attempt in (tracking.probe_store, lambda address: tracking.open_store(address, "tests")):
        start = time.monotonic()
        with pytest.raises(StoreError, match="cannot be opened: ") as caught:
            attempt(uri)
        assert time.monotonic() - start < soon
        said = str(caught.value)
        assert said.startswith(f"tracking store {shown(uri)} cannot be opened: ")
        assert what in said
        assert "\n" not in said
        assert len(said) < 600


def _change(uri: str, *statements: str) -> None:
    with sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool).begin() as connection:
        for statement in statements:
            connection.execute(sqlalchemy.text(statement))
