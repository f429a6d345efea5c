"""Writing to a run, by its id and through the client: a bare `log_metric` in a pool thread would open an orphan run."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import mlflow.data
import mlflow.pytorch
import numpy as np
import torch
from matplotlib.figure import Figure
from mlflow import MlflowClient
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.entities import DatasetInput, InputTag, Metric, Param
from mlflow.models import infer_signature
from torch import Tensor, nn

from flows.tracking.runs import Run


def log_params(run: Run, values: Mapping[str, object]) -> None:
    """Log the parameters that the run does not have yet.

    `mlflow run` has logged the given ones in their raw spelling, and a second spelling of the same is refused.
    """
    client = MlflowClient(run.uri)
    present = client.get_run(run.run_id).data.params
    missing = [Param(name, str(value)) for name, value in values.items() if name not in present]
    client.log_batch(run.run_id, params=missing)


def log_metrics(run: Run, values: Mapping[str, float], step: int = 0) -> None:
    """Log figures that belong to one step, in one call."""
    now = int(time.time() * 1000)
    metrics = [Metric(name, float(value), now, step) for name, value in values.items()]
    MlflowClient(run.uri).log_batch(run.run_id, metrics=metrics)


def log_tags(run: Run, tags: Mapping[str, str]) -> None:
    """Set tags."""
    client = MlflowClient(run.uri)
    for key, value in tags.items():
        client.set_tag(run.run_id, key, value)


def log_note(run: Run, markdown: str) -> None:
    """Set the description that the UI shows on top of a run."""
    MlflowClient(run.uri).set_tag(run.run_id, "mlflow.note.content", markdown)


def log_json(run: Run, value: Mapping[str, object], file: str) -> None:
    """Log a JSON object as an artifact."""
    MlflowClient(run.uri).log_dict(run.run_id, dict(value), file)


def log_text(run: Run, text: str, file: str) -> None:
    """Log a text as an artifact."""
    MlflowClient(run.uri).log_text(run.run_id, text, file)


def log_table(run: Run, columns: Mapping[str, Sequence[object]], file: str) -> None:
    """Log a table that the UI compares between runs; once per run, for a second call would append."""
    MlflowClient(run.uri).log_table(run.run_id, {name: list(values) for name, values in columns.items()}, file)


def log_files(run: Run, path: Path, folder: str | None = None) -> None:
    """Log a file, or all files of a folder, as artifacts."""
    client = MlflowClient(run.uri)
    if path.is_dir():
        client.log_artifacts(run.run_id, str(path), folder)
    else:
        client.log_artifact(run.run_id, str(path), folder)


def log_picture(run: Run, pixels: np.ndarray, key: str, step: int = 0) -> None:
    """Log a picture [height, width, 3], uint8, that the UI's charts show beside those of other runs and steps."""
    MlflowClient(run.uri).log_image(run.run_id, pixels, key=key, step=step, synchronous=True)


def log_figure(run: Run, figure: Figure, file: str) -> None:
    """Log a matplotlib figure as an artifact."""
    MlflowClient(run.uri).log_figure(run.run_id, figure, file)


def log_dataset(run: Run, name: str, images: Tensor, labels: Tensor, *, context: str, digest: str) -> None:
    """Log images [n, C, H, W] and labels [n] as a dataset input of the run: name, shapes and digest, no pixels."""
    source = CodeDatasetSource(tags={"name": name, "sha256": digest})
    # MLflow's digests are at most 36 characters long.
    data = mlflow.data.from_numpy(
        images.numpy(), source=source, targets=labels.numpy(), name=f"{name} {context}", digest=digest[:16]
    )
    tags = [InputTag("mlflow.data.context", context)]
    MlflowClient(run.uri).log_inputs(run.run_id, [DatasetInput(data._to_mlflow_entity(), tags)])


def log_network(run: Run, network: nn.Module, images: Tensor, requirements: Sequence[str]) -> str:
    """Log the network as an MLflow model with its signature; the model's address.

    `images` [n, C, H, W] is the example, n >= 2: torch.export takes a batch of one for a constant. It is brought to the
    floating type of the weights, which the signature then asks for. MLflow ends the run as FINISHED: log nothing after.
    """
    network = network.eval()
    kind = next((weights.dtype for weights in network.parameters() if weights.is_floating_point()), images.dtype)
    images = images.to(kind)
    with torch.no_grad():
        outputs = network(images)
    # The batch is left open in the signature, so that the model serves any number of images.
    signature = infer_signature(images.numpy(), outputs.numpy())
    with mlflow.start_run(run_id=run.run_id, nested=True):
        logged = mlflow.pytorch.log_model(
            network,
            name="network",
            signature=signature,
            input_example=images.numpy(),
            pip_requirements=list(requirements),
        )
    return str(logged.model_uri)
