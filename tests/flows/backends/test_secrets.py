"""Secrets of addresses, end to end: nothing that a flow prints, logs, stores or tells a server holds any of them."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from mlflow import MlflowClient
from prefect import get_client

from flows.config.entry_points import ENTRY_POINTS
from flows.errors import FlowError
from flows.pipelines.deployments import offered_flow
from flows.pipelines.flows import run_flow
from flows.pipelines.preparation import prepare_flow
from tests.flows.backends.commands import command
from tests.flows.backends.servers import free_port, postgresql, postgresql_programs, tracking_server
from tests.flows.small_run import PATTERN, store_in

SECRET = "S3cret@Pa55word"
TOKEN = "T0kenV4lue"
SPELT = (SECRET, quote(SECRET, safe=""), TOKEN, "Pa55word")
CONTINUED = {**PATTERN, "images_per_class": "1", "scoring_sets": "2", "workers": "2"}


def found_in(text: str | bytes) -> list[str]:
    """The secrets that a text holds."""
    said = text if isinstance(text, bytes) else text.encode()
    return [spelt for spelt in SPELT if spelt.encode() in said]


def files_with_secrets(place: Path) -> list[str]:
    return [str(path) for path in place.rglob("*") if path.is_file() and found_in(path.read_bytes())]


def prefect_says() -> str:
    """Everything that the Prefect server of the tests has been told of runs, their parameters and their logs."""
    with get_client(sync_client=True) as prefect:
        told = [
            *prefect.read_flow_runs(),
            *prefect.read_task_runs(),
            *prefect.read_artifacts(),
            *prefect.read_logs(None),
        ]
    return "\n".join(each.model_dump_json() for each in told)


@pytest.fixture(params=["http", "postgresql", "query"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A real store behind an address with a secret, and the address without."""
    if request.param == "http":
        with tracking_server(tmp_path / "server", store_in(tmp_path, "server.db")) as server:
            yield server.uri.replace("//", f"//someone:{quote(SECRET, safe='')}@"), server.uri
        return
    with postgresql() as plain:
        if request.param == "query":
            yield f"{plain}?password={TOKEN}&application_name={TOKEN}", plain
        else:
            yield plain.replace("mlflow@", f"mlflow:{quote(SECRET, safe='')}@"), plain


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_secret_of_a_store_is_printed_or_stored_while_a_run_is_made_and_continued(
    store: tuple[str, str], prefect_server: None, tmp_path: Path
) -> None:
    uri, plain = store
    place, cache = tmp_path / "commands", tmp_path / "cache"
    client = MlflowClient(plain)
    assert command("train", place, "", cache, tracking_uri=uri, model="fc2", epochs="2").code == 0
    [trained] = client.search_runs(_experiments(client), "tags.flow = 'train'")
    # Typed and from the environment, in this process and in others.
    runner = "processes" if plain.startswith("http") else "threads"
    words = {"tracking_uri": uri, "run_id": trained.info.run_id, "task_runner": runner, **CONTINUED}
    assert command("score", place, "", cache, **words).code == 0
    [scored] = client.search_runs(_experiments(client), "tags.flow = 'score'")
    assert command("check", place, uri, cache, run_id=scored.info.run_id).code == 0
    assert command("check", place, uri, cache, run_id="nothing").code == 2
    log = (place / "log").read_text()
    assert "***@" in log
    assert "no such run" in log
    assert not found_in(log), log
    assert not files_with_secrets(tmp_path)
    assert not found_in(prefect_says())
    assert trained.data.params["tracking_uri"].startswith(plain.split("://")[0] + "://***@")
    assert not found_in(repr([each.to_dictionary() for each in client.search_runs(_experiments(client))]))
    if plain.startswith("postgresql"):
        assert not found_in(_dump(plain))


AWAY = {
    "http": "http://someone:{secret}@127.0.0.1:{port}",
    "token": "http://{token}@127.0.0.1:{port}",
    "query": "http://127.0.0.1:{port}?token={token}",
    "scheme": "nothing://someone:{secret}@127.0.0.1:{port}/db",
    "driver": "postgresql+nodriver://someone:{secret}@127.0.0.1:{port}/db",
    "port": "postgresql+psycopg2://someone:{token}:{token}@127.0.0.1:{token}/db",
    "unescaped": "postgresql+psycopg2://someone:S3cret/Pa55word@127.0.0.1:{port}/db",
    "sqlite": "sqlite:////no/such/folder/{token}?password={token}",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", AWAY)
def test_no_secret_is_printed_where_a_store_cannot_be_used(kind: str, prefect_server: None, tmp_path: Path) -> None:
    uri = AWAY[kind].format(secret=quote(SECRET, safe=""), token=TOKEN, port=free_port())
    ended = command("train", tmp_path / "typed", "", "none", tracking_uri=uri, model="fc2", epochs="1")
    named = command("score", tmp_path / "named", uri, "none", run_id="nothing")
    for each in (ended, named):
        assert each.code != 0
        assert not found_in(each.log), each.log
    assert not found_in(prefect_says())


def test_a_deployment_takes_no_secret_as_a_parameter(prefect_server: None) -> None:
    uri = f"http://someone:{quote(SECRET, safe='')}@127.0.0.1:{free_port()}"
    state = offered_flow("train")(tracking_uri=uri, return_state=True)
    assert state.is_failed()
    assert str(state.message).startswith("tracking_uri=http://***@127.0.0.1:")
    assert "set MLFLOW_TRACKING_URI where the worker runs instead" in str(state.message)
    assert not found_in(str(state.message))


def test_under_mlflow_run_no_secret_is_taken_as_a_parameter(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"http://someone:{TOKEN}@127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_RUN_ID", "1")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(FlowError, match=r"^tracking_uri=http://\*\*\*@127.*give the address as \$MLFLOW_TRACKING_URI"):
        prepare_flow(ENTRY_POINTS["train"], {"tracking_uri": uri})


def test_an_address_as_it_is_shown_is_refused_with_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="what is shown of an address, without its secret"):
        prepare_flow(ENTRY_POINTS["train"], {"tracking_uri": "http://***@127.0.0.1:5000"})


@pytest.mark.slow
def test_a_sweep_goes_on_in_a_store_whose_address_holds_a_secret(prefect_server: None, tmp_path: Path) -> None:
    with tracking_server(tmp_path / "server", store_in(tmp_path, "server.db")) as server:
        uri = server.uri.replace("//", f"//someone:{TOKEN}@")
        words = {"model": "fc2", "epochs": "2", "images_per_class": "1", "scoring_sets": "1", "values": "0.1,0.5"}
        settings = prepare_flow(ENTRY_POINTS["sweep"], {"tracking_uri": uri, **words})
        done = run_flow("sweep", settings)
        assert MlflowClient(server.uri).get_run(done).info.status == "FINISHED"
    assert not files_with_secrets(tmp_path)


def _experiments(client: MlflowClient) -> list[str]:
    return [each.experiment_id for each in client.search_experiments()]


def _dump(uri: str) -> bytes:
    program = postgresql_programs() / "pg_dump"
    address = uri.replace("+psycopg2", "")
    return subprocess.run([program, "--data-only", address], check=True, capture_output=True).stdout
