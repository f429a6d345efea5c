"""Runs that are named to continue from: each that cannot be is refused in one line."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st
from mlflow import MlflowClient

from flows import tracking
from flows.adapters import artifacts
from flows.config.command_line import settings_of_run
from flows.config.entry_points import ENTRY_POINTS
from flows.config.settings import Settings
from flows.errors import ArtifactError, FlowError, SettingsError
from flows.pipelines.preparation import prepare_flow
from flows.redaction import redacted
from flows.tracking import Run
from tests.flows.tracking.stores.made import address

GOOD = json.loads(json.dumps(Settings(model="fc2").model_dump()))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> tracking.Store:
    return tracking.open_store(address(tmp_path_factory.mktemp("earlier") / "mlflow.db"), "tests")


@pytest.fixture(scope="module")
def client(store: tracking.Store) -> MlflowClient:
    return MlflowClient(store.uri)


def made(
    client: MlflowClient, store: tracking.Store, content: bytes | None, status: str = "FINISHED", **tags: str
) -> Run:
    """A run of a train stage with that settings.json, as somebody may hand it on."""
    run = client.create_run(store.experiment_id, tags={"stage": "train"} | tags)
    found = Run(store.uri, store.experiment_id, run.info.run_id)
    if content is not None:
        path = Path(tempfile.mkdtemp()) / "settings.json"
        path.write_bytes(content)
        tracking.telling_at_once(found).add_files(path)
        shutil.rmtree(path.parent)
    if status != "RUNNING":
        client.set_terminated(found.run_id, status)
    return found


def settings_json(**changes: object) -> bytes:
    return json.dumps(GOOD | changes).encode()


def without(*names: str) -> bytes:
    return json.dumps({name: value for name, value in GOOD.items() if name not in names}).encode()


DAMAGED = {
    "empty": (b"", "cannot be read"),
    "cut": (settings_json()[:500], "cannot be read"),
    "no utf-8": (settings_json(dataset="x").replace(b'"x"', b'"\xff\xfe"'), "cannot be read"),
    "utf-16": (settings_json().decode().encode("utf-16"), "cannot be read"),
    "binary": (bytes(range(256)) * 20, "cannot be read"),
    "nested without end": (b"[" * 100_000, "cannot be read"),
    "a number without end": (b'{"epochs": ' + b"9" * 5000 + b"}", "cannot be read"),
    "a name twice": (b'{"epochs": 1, ' + settings_json()[1:], "'epochs' is in it twice"),
    "a list": (b"[1, 2]", "holds no JSON object"),
    "a number": (b"7", "holds no JSON object"),
    "null": (b"null", "holds no JSON object"),
    "nothing in it": (b"{}", "it lacks allow_degenerate, augment, batch_size and"),
    "an older form": (without("gate", "relax"), "it lacks gate, relax"),
    "a newer form": (settings_json(depth=3), "unknown parameter 'depth'"),
    "text for a number": (settings_json(epochs="20"), "epochs=20: must be a valid integer"),
    "truth for a number": (settings_json(epochs=True), "epochs=True: must be a valid integer"),
    "a number for truth": (settings_json(relax=1), "relax=1: must be a valid boolean"),
    "a list for text": (settings_json(model=["fc2"]), "model=a list: must be a valid string"),
    "an object for text": (settings_json(model={"a": 1}), "model=a dict: must be a valid string"),
    "null for text": (settings_json(model=None), "model=None: must be a valid string"),
    "a huge number": (settings_json(threads=10**30), "must be less than or equal to 1024"),
    "a number beyond floats": (settings_json().replace(b'"gap": 0.0001', b'"gap": 1e999'), "gap=inf: must be a finite"),
    "no number": (settings_json(loss_weight=float("nan")), "loss_weight=nan: must be a finite number"),
    "no choice": (settings_json(gate="ajar"), "gate=ajar: must be 'published'"),
    "a long text": (settings_json(dataset="x" * 10**6), "at most 10000 characters"),
    "lines in a name": (settings_json(**{"a\nb": 1}), "unknown parameter 'a b'"),
    "all wrong": (json.dumps({name: [] for name in GOOD}).encode(), "more)"),
}


@pytest.mark.parametrize(("content", "what"), DAMAGED.values(), ids=DAMAGED)
def test_settings_that_this_version_has_not_logged_are_refused_in_one_line(
    client: MlflowClient, store: tracking.Store, content: bytes, what: str
) -> None:
    run = made(client, store, content)
    assert what in _refusal(lambda: _continue(run, store))


def test_settings_in_a_folder_of_that_name_are_refused_in_one_line(
    client: MlflowClient, store: tracking.Store, tmp_path: Path
) -> None:
    run = made(client, store, None)
    (tmp_path / "settings.json").mkdir()
    (tmp_path / "settings.json" / "a").touch()
    client.log_artifacts(run.run_id, str(tmp_path))
    assert "settings.json cannot be read" in _refusal(lambda: _continue(run, store))


@how(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted(GOOD)) | st.text(max_size=8),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
            max_leaves=6,
        ),
        max_size=5,
    )
)
def test_whatever_a_strangers_settings_say_they_are_those_settings_or_refused_in_one_line(changes: dict) -> None:
    refusal = ""
    try:
        found = settings_of_run(GOOD | changes)
    except SettingsError as error:
        refusal = str(error)
    if refusal:
        assert len(refusal.splitlines()) == 1
        assert len(refusal) < 2000
    else:
        assert {name: getattr(found, name) for name in changes} == changes


def test_settings_that_were_logged_are_read_as_they_were(client: MlflowClient, store: tracking.Store) -> None:
    run = made(client, store, None, "RUNNING")
    settings = Settings(model="fc2", learning_rate=2.0, dataset="é", threads=3)
    artifacts.log_settings(tracking.telling_at_once(run), settings)
    assert artifacts.logged_settings(run) == settings


def test_a_deleted_run_is_refused_and_goes_on_once_it_is_restored(client: MlflowClient, store: tracking.Store) -> None:
    run = made(client, store, settings_json())
    client.delete_run(run.run_id)
    said = _refusal(lambda: _continue(run, store))
    assert f"run_id={run.run_id}: it is deleted; `mlflow runs restore --run-id {run.run_id}`" in said
    client.restore_run(run.run_id)
    assert tracking.find_run(store.uri, run.run_id) == run


def test_a_run_that_came_from_a_deleted_one_names_it(client: MlflowClient, store: tracking.Store) -> None:
    source = made(client, store, settings_json())
    run = made(client, store, settings_json(), stage="prune", **{"from.train": source.run_id})
    client.delete_run(source.run_id)
    assert f"run_id={source.run_id}: it is deleted" in _refusal(lambda: _continue(run, store))


def test_a_run_of_a_deleted_experiment_is_refused(store: tracking.Store, client: MlflowClient) -> None:
    other = tracking.open_store(store.uri, f"gone {os.urandom(4).hex()}")
    run = made(client, other, settings_json())
    client.delete_experiment(other.experiment_id)
    said = _refusal(lambda: _continue(run, store))
    assert "is deleted; `mlflow experiments restore --experiment-id" in said
    client.restore_experiment(other.experiment_id)
    assert tracking.find_run(store.uri, run.run_id) == run


@pytest.mark.parametrize("status", ["RUNNING", "FAILED", "KILLED"])
def test_a_stage_that_has_not_ended_well_is_refused_with_its_status(
    client: MlflowClient, store: tracking.Store, status: str
) -> None:
    run = made(client, store, settings_json(), status)
    said = _refusal(lambda: _continue(run, store))
    assert f"is a finished train stage (train {run.run_id} is {status}); give the run of a finished train" in said


def test_a_run_of_another_kind_is_refused_with_the_stage_that_is_wanted(
    client: MlflowClient, store: tracking.Store
) -> None:
    for run in (made(client, store, None, stage=""), made(client, store, settings_json(), stage="sweep")):
        assert "neither it nor a run below it is a finished train stage; give" in _refusal(
            lambda run=run: _continue(run, store)
        )


def test_another_projects_run_without_our_artifacts_is_refused(client: MlflowClient, store: tracking.Store) -> None:
    run = made(client, store, None)
    assert "it has no artifact settings.json; choose another run" in _refusal(lambda: _continue(run, store))


@pytest.mark.parametrize("place", ["s3://bucket/runs", "gs://bucket/runs", "wasbs://c@a.blob.core.windows.net/x"])
def test_a_run_whose_files_need_a_library_that_is_not_here_is_refused(
    client: MlflowClient, store: tracking.Store, place: str
) -> None:
    name = f"elsewhere {os.urandom(4).hex()}"
    other = tracking.Store(store.uri, client.create_experiment(name, artifact_location=place))
    run = made(client, other, None)
    said = _refusal(lambda: _continue(run, store))
    assert "it has no artifact settings.json in " in said
    assert redacted(place) in said  # a container is spelt as a user is


@pytest.mark.parametrize("run_id", ["x", "../../etc", "a" * 5000, "é", "tr-0123456789abcdef", "' or 1=1 --", "m-1"])
def test_what_is_no_run_is_refused(store: tracking.Store, run_id: str) -> None:
    said = _refusal(lambda: _continue(Run(store.uri, "1", run_id), store))
    assert "no such run in" in said


def _continue(run: Run, store: tracking.Store) -> Settings:
    return prepare_flow(ENTRY_POINTS["score"], {"run_id": run.run_id, "tracking_uri": store.uri})


def _refusal(attempt: Callable[[], object]) -> str:
    with pytest.raises(FlowError) as caught:
        attempt()
    said = str(caught.value)
    assert isinstance(caught.value, ArtifactError), said
    assert said.startswith("run_id=")
    assert len(said.splitlines()) == 1
    return said
