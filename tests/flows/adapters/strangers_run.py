"""A stranger's run: models that run code when they are loaded, and runs whose settings name them."""

import pickle
import shlex
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import mlflow
import pytest
import torch
from mlflow import MlflowClient
from torch import nn

from flows import tracking
from flows.adapters import artifacts
from flows.config.entry_points import ENTRY_POINTS
from flows.errors import ArtifactError
from flows.pipelines.preparation import prepare_flow
from flows.tracking import Run
from tests.flows.small_run import PATTERN

CONTINUING = tuple(name for name, point in ENTRY_POINTS.items() if point.after)
FACTORY = """
from pathlib import Path
from torch import nn

Path({marker!r}).touch()

def net():
    Path({marker!r}).touch()
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))

def _load_pyfunc(path):
    return net()
"""
HONEST = """
from torch import nn

def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
"""
LOADER = """
flavors:
  python_function: {{loader_module: hostile_loader, code: code, data: data, python_version: 3.11.0}}
  pytorch: {{model_data: data, pytorch_version: {version}, code: code}}
model_id: null
"""
SCORED = {**PATTERN, "images_per_class": "1"}
TRAINED = {"image_size": "8", "epochs": "8", "learning_rate": "0.01", "draws": "1", "export": "none"}
TRAINED |= {**SCORED, "selection": "threshold"}
MORE = {"score": SCORED, "prune": {"selection": "threshold", "draws": "1"}, "compact": {"export": "none"}}


class Touching(nn.Module):
    """A network whose pickle makes a file when it is loaded."""

    def __init__(self, marker: Path) -> None:
        super().__init__()
        self.marker = marker

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.marker,)


def file_that_runs(place: Path, marker: Path, *_: object) -> str:
    (place / "hostile file.py").write_text(FACTORY.format(marker=str(marker)))
    return f"{place / 'hostile file.py'}:net"


def module_that_runs(place: Path, marker: Path, run: Run, client: MlflowClient, patch: pytest.MonkeyPatch) -> str:
    (place / "hostile_module.py").write_text(FACTORY.format(marker=str(marker)))
    patch.syspath_prepend(place)
    return "hostile_module:net"


def pickle_that_runs(place: Path, marker: Path, run: Run, client: MlflowClient, patch: pytest.MonkeyPatch) -> str:
    folder = place / "pickled"
    (folder / "data").mkdir(parents=True)
    (folder / "MLmodel").write_text(LOADER.format(version=torch.__version__).replace("code: code, ", ""))
    (folder / "data" / "model.pth").write_bytes(pickle.dumps(Touching(marker)))
    (folder / "data" / "pickle_module_info.txt").write_text("pickle")
    client.log_artifacts(run.run_id, str(folder), "pickled")
    return f"runs:/{run.run_id}/pickled"


def logged_model_that_runs(place: Path, marker: Path, run: Run, client: MlflowClient, patch: pytest.MonkeyPatch) -> str:
    mlflow.set_tracking_uri(client.tracking_uri)
    with mlflow.start_run(experiment_id=run.experiment_id):
        logged = mlflow.pytorch.log_model(
            Touching(marker), name="network", serialization_format="pickle", pip_requirements=["torch"]
        )
    return str(logged.model_uri)


def loader_that_runs(place: Path, marker: Path, run: Run, client: MlflowClient, patch: pytest.MonkeyPatch) -> str:
    folder = place / "loader"
    (folder / "data").mkdir(parents=True)
    (folder / "code").mkdir()
    (folder / "MLmodel").write_text(LOADER.format(version=torch.__version__))
    (folder / "code" / "hostile_loader.py").write_text(FACTORY.format(marker=str(marker)))
    (folder / "data" / "model.pth").write_bytes(pickle.dumps(nn.Flatten()))
    # MLflow imports what this file names.
    (folder / "data" / "pickle_module_info.txt").write_text("hostile_loader")
    client.log_artifacts(run.run_id, str(folder), "loader")
    return f"runs:/{run.run_id}/loader"


KINDS: Mapping[str, Callable[..., str]] = {
    "file": file_that_runs,
    "module": module_that_runs,
    "pickle": pickle_that_runs,
    "logged_model": logged_model_that_runs,
    "loader": loader_that_runs,
}


@contextmanager
def saying(runs: list[Run], **values: object) -> Iterator[str]:
    """The runs with other settings in their artifacts and params, for the block; the id of the run on top."""
    before = {run: artifacts.logged_settings(run) for run in runs}
    params = {run: {name: run.params().get(name, "") for name in values} for run in runs}
    try:
        for run, settings in before.items():
            tracking.telling_at_once(run).add_json({**settings.model_dump(), **values}, artifacts.SETTINGS)
            _rewrite_params(run, {name: str(value) for name, value in values.items()})
        yield runs[0].run_id
    finally:
        for run, settings in before.items():
            artifacts.log_settings(tracking.telling_at_once(run), settings)
            _rewrite_params(run, params[run])


def _rewrite_params(run: Run, values: Mapping[str, str]) -> None:
    """Change params in the store's database, as far as the run has them: MLflow itself changes none."""
    with closing(sqlite3.connect(run.uri.removeprefix("sqlite:///"), timeout=30)) as database:
        for name, value in values.items():
            database.execute("UPDATE params SET value = ? WHERE run_uuid = ? AND key = ?", (value, run.run_id, name))
        database.commit()


def refused(name: str, client: MlflowClient, run_id: str, **words: str) -> str:
    """The one line in which an entry point refuses a run."""
    with pytest.raises(ArtifactError) as caught:
        prepare_flow(ENTRY_POINTS[name], {"run_id": run_id, "tracking_uri": client.tracking_uri, **words})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def typed(line: str) -> dict[str, str]:
    """What a line of refusal says to type."""
    words = shlex.split(line.partition(" type ")[2].partition(" (or ")[0])
    return dict(zip([word.removeprefix("--") for word in words[::2]], words[1::2], strict=True))
