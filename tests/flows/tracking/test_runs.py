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
from flows.errors import StoreError


def test_a_network_in_double_precision_is_logged_as_a_model_that_takes_such_images(store: tracking.Store) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3), nn.ReLU(), nn.Linear(3, 2)).double()
    images = torch.rand(2, 1, 4, 4)
    with tracking.open_flow_run(store, "double", {}) as run:
        address = tracking.log_network(run, network, images, ["torch"])
    assert MlflowClient(store.uri).get_run(run.run_id).info.status == "FINISHED"
    model = mlflow.pyfunc.load_model(address)
    assert model.metadata.signature.inputs.inputs[0].type == np.dtype(np.float64)
    with torch.no_grad():
        expected = network(images.double()).numpy()
    np.testing.assert_allclose(model.predict(images.double().numpy()), expected, atol=1e-12)


def test_a_run_whose_last_figure_cannot_be_written_ends_as_failed(store: tracking.Store) -> None:
    with closing(sqlite3.connect(store.uri.removeprefix("sqlite:///"))) as database:
        database.execute("CREATE TRIGGER full BEFORE INSERT ON metrics BEGIN SELECT RAISE(FAIL, 'disk full'); END")
    with pytest.raises(StoreError, match="disk full"), tracking.open_flow_run(store, "full", {}):
        pass
    [run] = MlflowClient(store.uri).search_runs([store.experiment_id])
    assert run.info.status == "FAILED"
    assert mlflow.active_run() is None
