"""Runs and models on a real store of their own."""

import sqlite3
from contextlib import closing

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from torch import nn

from flows import tracking
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
