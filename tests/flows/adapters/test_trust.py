"""A stranger's run names code and pickles: whoever continues it runs none unless it is named again."""

import sys
from contextlib import suppress
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows import stages, tracking
from flows.config.entry_points import ENTRY_POINTS
from flows.errors import ArtifactError
from flows.pipelines.deployments import offered_flow
from flows.pipelines.preparation import prepare_flow
from flows.tracking import Run
from tests.flows.adapters.strangers_run import CONTINUING, file_that_runs, refused, saying, typed


@pytest.mark.parametrize("name", CONTINUING)
def test_nothing_that_a_run_names_as_its_model_is_run_unless_it_is_named_again(
    name: str, hostile: str, marker: Path, stranger: list[Run], client: MlflowClient
) -> None:
    with saying(stranger, model=hostile, allow_pickle=True) as run_id:
        line = refused(name, client, run_id)
        assert typed(line)["model"] == hostile
        again = refused(name, client, run_id, model="other.py:net")
    assert "where this command says model=other.py:net" in again
    assert typed(again)["model"] == hostile
    assert not marker.exists()


@pytest.mark.parametrize("name", [*CONTINUING, "main", "train", "gradual", "sweep", "robustness", "transfer"])
@pytest.mark.parametrize("hostile", ["pickle", "logged_model", "loader"], indirect=True)
def test_a_pickle_is_not_loaded_unless_that_is_asked_for_by_name(
    name: str, hostile: str, marker: Path, stranger: list[Run], client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true")
    words = {"model": hostile, "tracking_uri": client.tracking_uri}
    with saying(stranger, model=hostile, allow_pickle=True) as run_id:
        words |= {"run_id": run_id} if ENTRY_POINTS[name].after else {"dataset": "digits", "image_size": "8"}
        words |= {"dataset": "digits", "target": "kmnist"} if name == "transfer" else {}
        if name == "check":
            # It builds no network before its task does.
            settings = prepare_flow(ENTRY_POINTS[name], words)
            scored = tracking.find_stage(stranger[0], "score")
            with pytest.raises(ArtifactError, match="is a pickle"):
                stages.check_solutions(settings, scored, tracking.find_stage(scored, "train"))
        elif name == "score":
            settings = prepare_flow(ENTRY_POINTS[name], words)
            trained = tracking.find_stage(stranger[0], "train")
            with pytest.raises(ArtifactError, match="is a pickle"):
                stages.draw_scoring_sets(settings, trained, trained)
        else:
            with pytest.raises(ArtifactError, match=r"is a pickle.* give allow_pickle=true"):
                prepare_flow(ENTRY_POINTS[name], words)
    assert not marker.exists()
    assert "hostile_loader" not in sys.modules


def test_what_is_refused_would_have_run(hostile: str, marker: Path, stranger: list[Run], client: MlflowClient) -> None:
    with saying(stranger, model=hostile) as run_id:
        words = typed(refused("prune", client, run_id))
        assert (words.get("allow_pickle") == "true") == (":/" in hostile)
        # The pickles hold no network.
        with suppress(ArtifactError):
            prepare_flow(ENTRY_POINTS["prune"], {"run_id": run_id, "tracking_uri": client.tracking_uri, **words})
    assert marker.exists()


@pytest.mark.parametrize("name", CONTINUING)
def test_a_deployment_refuses_a_strangers_run_in_one_line_too(
    name: str, prefect_server: None, tmp_path: Path, marker: Path, stranger: list[Run], client: MlflowClient
) -> None:
    with saying(stranger, model=file_that_runs(tmp_path, marker)) as run_id:
        state = offered_flow(name)(run_id=run_id, tracking_uri=client.tracking_uri, return_state=True)
    assert state.is_failed()
    assert state.message.startswith(f"run_id={run_id}: its settings name model={tmp_path}")
    assert not marker.exists()
