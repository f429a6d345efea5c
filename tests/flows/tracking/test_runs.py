"""Runs and models on a real store of their own."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from torch import nn

from flows import tracking
from flows.cache import Metrics
from flows.errors import ArtifactError, StoreError


class Branching(nn.Module):
    """A network whose way depends on its images: no graph of it can be exported."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) if images.sum() > 0 else -images.flatten(1)


def test_a_network_in_double_precision_is_logged_as_a_model_that_takes_such_images(store: tracking.Store) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    images = torch.rand(2, 1, 4, 4)
    with tracking.open_flow_run(store, "double", {}) as run:
        address = tracking.log_network(run, network, images, ["torch"], {"classes": ["no", "yes"]})
    assert MlflowClient(store.uri).get_run(run.run_id).info.status == "FINISHED"
    model = mlflow.pyfunc.load_model(address)
    assert model.metadata.signature.inputs.inputs[0].type == np.dtype(np.float64)
    with torch.no_grad():
        expected = network(images.double()).numpy()
    np.testing.assert_allclose(model.predict(images.double().numpy()), expected, atol=1e-12)
    assert model.metadata.metadata == {"classes": ["no", "yes"]}
    assert model.input_example.shape == (2, 1, 4, 4)


def test_a_model_of_large_images_has_no_input_example_and_one_that_cannot_be_exported_is_refused(
    store: tracking.Store,
) -> None:
    large = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    with tracking.open_flow_run(store, "large", {}) as run:
        address = tracking.log_network(run, large, torch.rand(2, 1, 100, 100), ["torch"], {})
        assert tracking.log_network(run, large, torch.rand(2, 1, 100, 100), ["torch"], {}) == address
    served = mlflow.pyfunc.load_model(address)
    assert served.input_example is None
    assert served.predict(torch.rand(3, 1, 100, 100).numpy()).shape == (3, 2)
    listed = MlflowClient(store.uri).list_logged_model_artifacts(address.removeprefix("models:/"))
    assert not [each.path for each in listed if "example" in each.path]
    refused = pytest.raises(ArtifactError, match=r"^the network is no MLflow model, for torch\.export refuses it \(")
    with tracking.open_flow_run(store, "branches", {}) as run, refused:
        tracking.log_network(run, Branching(), torch.rand(2, 1, 4, 4), ["torch"], {})
    assert (
        MlflowClient(store.uri).search_logged_models([store.experiment_id], f"source_run_id = '{run.run_id}'")[0].status
        != "READY"
    )


def test_a_run_whose_last_figure_cannot_be_written_ends_as_failed(store: tracking.Store) -> None:
    with closing(sqlite3.connect(store.uri.removeprefix("sqlite:///"))) as database:
        database.execute("CREATE TRIGGER full BEFORE INSERT ON metrics BEGIN SELECT RAISE(FAIL, 'disk full'); END")
    with pytest.raises(StoreError, match="disk full"), tracking.open_flow_run(store, "full", {}):
        pass
    [run] = MlflowClient(store.uri).search_runs([store.experiment_id])
    assert run.info.status == "FAILED"
    assert mlflow.active_run() is None


def test_a_task_asks_once_for_each_run_that_it_reads_and_again_for_one_that_it_writes_to(
    store: tracking.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    get_run = MlflowClient.get_run
    monkeypatch.setattr(
        MlflowClient, "get_run", lambda client, run_id: (asked.append(run_id), get_run(client, run_id))[1]
    )
    with tracking.open_flow_run(store, "read", {"said": "first"}) as earlier:
        pass
    with tracking.open_flow_run(store, "own", {}) as own, tracking.each_run_asked_once():
        asked.clear()
        for run in (earlier, own, earlier, own):
            assert run.tags()["mlflow.runName"] in ("read", "own")
            assert not run.contents()
            assert run.is_finished() == (run is earlier)
        assert asked == [earlier.run_id, own.run_id]
        tracking.telling_at_once(own).add_tags({"said": "second"})
        live = tracking.LiveMetrics(own)
        live(Metrics({"figure": 1.0}, 0, 0))
        assert (own.tags()["said"], own.metrics()["figure"]) == ("second", 1.0)
        assert earlier.tags()["said"] == "first"
        with tracking.each_run_asked_once():
            MlflowClient(store.uri).set_tag(earlier.run_id, "said", "third")
            assert earlier.tags()["said"] == "third", "another task looks anew"
        assert earlier.tags()["said"] == "first"
    assert earlier.tags()["said"] == "third"


def test_within_a_task_whatever_writes_to_a_run_is_read_from_it_afterwards(store: tracking.Store) -> None:
    client = MlflowClient(store.uri)
    with tracking.each_run_asked_once():
        with tracking.open_flow_run(store, "top", {}, "the command") as top:
            assert not top.params()
            tracking.log_params(top, {"depth": 1})
            assert top.params() == {"depth": "1"}
            with tracking.open_run(top, "below", {}) as below:
                assert not below.is_finished()
            assert below.is_finished()
            assert "seconds" in below.metrics()
            network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
            address = tracking.log_network(top, network, torch.rand(2, 1, 2, 2), ["torch"], {})
            tracking.show_model(below, address)
            assert [each.model_id for each in below.logged().outputs.model_outputs] == [address.rpartition("/")[2]]
        assert top.is_finished()
        client.set_terminated(top.run_id, "FAILED")
        top.changed()
        assert "resumed" not in top.tags()
        with tracking.open_flow_run(store, "top", {}, "the command", resume=True) as again:
            assert again == top
            assert again.tags()["resumed"] == "true"
            assert again.logged().info.status == "RUNNING"


def test_within_a_task_runs_that_are_ended_or_moved_by_another_run_are_read_anew(
    store: tracking.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(store.uri)

    def opened(**tags: str) -> tracking.Run:
        run = client.create_run(store.experiment_id, tags=tags)
        return tracking.Run(store.uri, store.experiment_id, run.info.run_id)

    def fails(mine: tracking.Store) -> None:
        with tracking.open_flow_run(mine, "new", {"stage": "flow"}, "the command", resume=True):
            assert given.tags()["stage"] == "flow"
            assert old.tags()["continued_by"] == given.run_id
            assert below.tags()["mlflow.parentRunId"] == given.run_id
            assert below.logged().info.status == "RUNNING"
            raise ValueError("the flow fails")

    with tracking.each_run_asked_once():
        old = opened(identity="the command")
        below = opened(**{"mlflow.parentRunId": old.run_id})
        client.set_terminated(old.run_id, "KILLED")
        given = opened()
        for run in (old, below, given):
            assert "stage" not in run.tags()
        mine = tracking.Store(store.uri, store.experiment_id, given.run_id)
        monkeypatch.setenv("MLFLOW_RUN_ID", given.run_id)
        mlflow.set_tracking_uri(store.uri)
        with pytest.raises(ValueError, match="the flow fails"):
            fails(mine)
        assert below.logged().info.status == "KILLED"


def test_a_list_of_tables_is_written_from_the_run_as_it_is_and_not_as_a_task_has_seen_it(
    store: tracking.Store, tmp_path: Path
) -> None:
    with tracking.open_flow_run(store, "tables", {}) as run, tracking.each_run_asked_once():
        assert "mlflow.loggedArtifacts" not in run.tags()
        listed = [{"path": "others.json", "type": "table"}]
        MlflowClient(store.uri).set_tag(run.run_id, "mlflow.loggedArtifacts", json.dumps(listed))
        tracking.telling_at_once(run).add_table({"unit": [1]}, "own.json")
        both = [each["path"] for each in json.loads(run.tags()["mlflow.loggedArtifacts"])]
    assert both == ["others.json", "own.json"]
