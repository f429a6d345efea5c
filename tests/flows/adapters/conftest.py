"""A finished run of a stranger, and a model that makes a file if anything of it is run."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows.tracking import Run
from tests.flows.adapters.strangers_run import HONEST, KINDS, TRAINED
from tests.flows.small_run import RunStage


@pytest.fixture(scope="session")
def honest(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("honest") / "own.py"
    file.write_text(HONEST)
    return f"{file}:net"


@pytest.fixture(scope="session")
def stranger(run_stage: RunStage, client: MlflowClient, honest: str) -> list[Run]:
    """A finished run of main with a factory of its own, and all runs below it; each test makes of it what it needs."""
    top = client.get_run(run_stage("main", model=honest, **TRAINED))
    below = client.search_runs([top.info.experiment_id], f"tags.mlflow.parentRunId = '{top.info.run_id}'")
    return [Run(client.tracking_uri, each.info.experiment_id, each.info.run_id) for each in (top, *below)]


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "executed"


@pytest.fixture(params=["file", "module", "pickle", "logged_model", "loader"])
def hostile(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    marker: Path,
    stranger: list[Run],
    client: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """A name of a model that makes the marker if anything of it is run."""
    yield KINDS[request.param](tmp_path, marker, stranger[0], client, monkeypatch)
    for name in ("hostile", "hostile_module", "hostile_loader"):
        sys.modules.pop(name, None)
