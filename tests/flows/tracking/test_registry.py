"""The model registry: versions, and the alias of the best, on a real store and on a real server."""

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from torch import nn

from flows import tracking
from flows.errors import StoreError
from flows.tracking import Candidate, Run
from flows.tracking.registry import CHAMPION, judged
from tests.flows.backends.servers import tracking_server
from tests.flows.small_run import store_in

NAME = "digits"


def figures(accuracy: float, cost: int, dataset: str = "digits") -> dict[str, str]:
    return {"validation_accuracy": str(accuracy), "multiply_adds": str(cost), "dataset": dataset}


@pytest.mark.parametrize(
    ("rule", "candidate", "champion", "better", "why"),
    [
        ("accuracy", figures(0.91, 9), figures(0.9, 5), True, "91.00 % against 90.00 %"),
        ("accuracy", figures(0.9, 1), figures(0.9, 5), False, "90.00 % against 90.00 %"),
        ("multiply_adds", figures(0.896, 4), figures(0.9, 5), True, "4 multiply-adds against 5"),
        ("multiply_adds", figures(0.894, 4), figures(0.9, 5), False, "0.5 points allowed"),
        ("multiply_adds", figures(0.99, 5), figures(0.9, 5), False, "5 multiply-adds against 5"),
        ("accuracy", figures(0.99, 1), figures(0.1, 5, "mnist"), False, "of mnist, not of digits"),
        ("accuracy", figures(0.99, 1), {"dataset": "digits"}, False, "no figure validation_accuracy and multiply_adds"),
        ("multiply_adds", figures(0.1, 9), None, True, "there was none"),
    ],
)
def test_a_candidate_is_judged_by_the_rule_and_equals_stay_behind(
    rule: str, candidate: dict[str, str], champion: dict[str, str] | None, better: bool, why: str
) -> None:
    verdict = judged(candidate, champion, rule, tolerance=0.5)
    assert (verdict.better, why in verdict.why) == (better, True)


def logged_model(store: tracking.Store, name: str) -> tuple[Run, str]:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with tracking.open_flow_run(store, name, {}) as run:
        return run, tracking.log_network(run, network, torch.rand(2, 1, 2, 2), ["torch"], {})


def versions(store: tracking.Store) -> tuple[list[str], dict[str, str]]:
    """The versions, and which of them has which alias."""
    client = MlflowClient(store.uri)
    found = sorted(str(each.version) for each in client.search_model_versions(f"name='{NAME}'"))
    return found, {alias: str(version) for alias, version in client.get_registered_model(NAME).aliases.items()}


def test_a_run_registers_its_model_once_and_the_better_one_takes_the_alias(store: tracking.Store) -> None:
    tracking.require_registry(store.uri, NAME)
    first, address = logged_model(store, "first")
    candidate = Candidate(NAME, address, "words", figures(0.9, 10))
    assert "version 1 registered, and made champion: there was none" in register(first, candidate)
    assert "version 1 is the champion already" in register(first, candidate)
    worse, address = logged_model(store, "worse")
    weaker = Candidate(NAME, address, "words", figures(0.8, 5))
    for _ in ("once", "again"):
        assert "version 2 registered; the champion stays version 1: validation accuracy 80" in register(worse, weaker)
    assert versions(store) == (["1", "2"], {CHAMPION: "1"})
    assert "version 2 registered, and made champion in place of version 1" in tracking.register_network(
        worse, weaker, "multiply_adds", 15.0
    )
    assert versions(store) == (["1", "2"], {CHAMPION: "2"})
    client = MlflowClient(store.uri)
    version = client.get_model_version(NAME, "2")
    assert (version.run_id, version.description, version.tags) == (worse.run_id, "words", figures(0.8, 5))
    assert version.source == address
    tags = client.get_logged_model(address.removeprefix("models:/")).tags
    assert [each["name"] for each in json.loads(tags["mlflow.modelVersions"])] == [NAME]
    loaded = mlflow.pyfunc.load_model(f"models:/{NAME}@{CHAMPION}")
    assert loaded.predict(np.zeros((3, 1, 2, 2), np.float32)).shape == (3, 2)


def register(run: Run, candidate: Candidate) -> str:
    return tracking.register_network(run, candidate, "accuracy", 0.5)


def test_a_name_that_the_registry_does_not_take_is_refused_before_anything_is_written(store: tracking.Store) -> None:
    with pytest.raises(StoreError, match=r"^register_as=a/b: the model registry of sqlite.* refuses it"):
        tracking.require_registry(store.uri, "a/b")
    assert MlflowClient(store.uri).search_registered_models() == []


def test_a_tracking_server_has_the_registry_of_its_store(tmp_path: Path) -> None:
    with tracking_server(tmp_path / "server", store_in(tmp_path)) as server:
        tracking.require_registry(server.uri, NAME)
        with pytest.raises(StoreError, match="register_as=a/b"):
            tracking.require_registry(server.uri, "a/b")
        store = tracking.open_store(server.uri, "tests")
        run, address = logged_model(store, "first")
        assert "made champion" in register(run, Candidate(NAME, address, "words", figures(0.9, 10)))
        assert versions(store) == (["1"], {CHAMPION: "1"})
