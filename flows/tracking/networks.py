"""Networks as MLflow models: logging the final one, loading one by its address."""

import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import mlflow
import mlflow.pytorch
import torch
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.exceptions import MlflowException
from mlflow.models import Model, infer_signature
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from torch import Tensor, nn

from flows.errors import ArtifactError
from flows.redaction import redacted
from flows.tracking.logged_run import Run
from flows.tracking.stores import reach_store, reached, require_store

NAME, FORMAT, MODELS = "network", "pt2", "models:/"
FIGURES = ("test_accuracy", "final_validation_accuracy", "parameters", "multiply_adds")
LONGEST = 240  # characters of a reason
LARGEST_EXAMPLE = 10_000  # pixels of an input example that is stored with the model
# What torch.export raises where a forward is beyond it.
REFUSALS = (RuntimeError, ValueError, TypeError, AssertionError, AttributeError, LookupError)
DATA, EXPORTED, PICKLED = "data", "model.pt2", "model.pth"  # where MLflow puts a torch model


class WithoutExample:
    """MLflow's flavor of torch, which exports by an input example, without the two files of it in JSON."""

    @staticmethod
    def save_model(path: str, mlflow_model: Model, **given: Any) -> None:
        """Save a model as :func:`mlflow.pytorch.save_model` does, and take the example out again."""
        mlflow.pytorch.save_model(path=path, mlflow_model=mlflow_model, **given)
        for file in (mlflow_model.saved_input_example_info or {}).values():
            if str(file).endswith(".json"):
                (Path(path) / file).unlink(missing_ok=True)
        mlflow_model.saved_input_example_info = None
        mlflow_model.save(str(Path(path) / MLMODEL_FILE_NAME))


def log_network(
    run: Run, network: nn.Module, images: Tensor, requirements: Sequence[str], metadata: Mapping[str, object]
) -> str:
    """Log the network as an MLflow model of a run, once, as an exported program.

    Its form may hold pickles, so whoever loads one trusts the store that it comes from.

    Args:
        run: which stays open, or ended, as it is.
        network: on the CPU.
        images: [n, C, H, W], n >= 2 (torch.export takes a batch of one for a constant); brought to the floating type of
            the weights, which the signature then asks for. Stored as the input example where they are few pixels.
        requirements: of the environment that serves the model.
        metadata: what is to be known of the model, as JSON has it.

    Returns:
        The model's address, `models:/<model id>`.

    Raises:
        ArtifactError: torch.export refuses the network.
        StoreError: the store does not answer.
    """
    with reached(run.uri) as client:
        if address := _logged(client, run):
            return address
    network = network.eval()
    kind = next((weights.dtype for weights in network.parameters() if weights.is_floating_point()), images.dtype)
    images = images.to(kind)
    with torch.no_grad():
        outputs = network(images)
    # The batch is left open in the signature, so that the model serves any number of images.
    signature = infer_signature(images.numpy(), outputs.numpy())
    mlflow.set_tracking_uri(run.uri)
    with reached(run.uri), run.changing():
        try:
            # By the run's id: `mlflow.pytorch.log_model` takes the active run, which it ends.
            logged = Model.log(
                artifact_path=None,
                flavor=mlflow.pytorch if images.numel() <= LARGEST_EXAMPLE else WithoutExample,
                name=NAME,
                run_id=run.run_id,
                metadata=dict(metadata),
                pytorch_model=network,
                signature=signature,
                input_example=images.numpy(),
                pip_requirements=list(requirements),
                serialization_format=FORMAT,
            )
        except REFUSALS as error:
            reason = " ".join(str(error).split())[:LONGEST]
            raise ArtifactError(f"the network is no MLflow model, for torch.export refuses it ({reason})") from error
    return str(logged.model_uri)


def show_model(run: Run, model_uri: str) -> None:
    """Let a run have a model of the run above it among its outputs, and the model the run's figures, once."""
    model_id = model_uri.removeprefix(MODELS)
    with reached(run.uri) as client, run.changing():
        found = client.get_run(run.run_id)
        if found.outputs is not None and model_id in {each.model_id for each in found.outputs.model_outputs}:
            return
        # As the run has them: a figure with another time would be there twice.
        figures = [
            Metric(each.key, each.value, each.timestamp, each.step, model_id=model_id, run_id=run.run_id)
            for name in FIGURES
            if name in found.data.metrics
            for each in client.get_metric_history(run.run_id, name)
        ]
        client.log_batch(run.run_id, metrics=figures)
        client.log_outputs(run.run_id, [LoggedModelOutput(model_id, step=0)])


def _logged(client: MlflowClient, run: Run) -> str:
    """The address of the run's model; one whose logging was interrupted is deleted."""
    found = client.search_logged_models([run.experiment_id], f"source_run_id = '{run.run_id}'")
    ready = [model for model in found if model.status == LoggedModelStatus.READY]
    for model in found:
        if model not in ready:
            client.delete_logged_model(model.model_id)
    return f"{MODELS}{ready[0].model_id}" if ready else ""


def load_logged_network(uri: str, model_uri: str, *, allow_pickle: bool) -> nn.Module:
    """The network of an MLflow model address such as `models:/name/1` or `runs:/<id>/network` in the store at `uri`.

    Without `allow_pickle` nothing of a model is loaded, whatever MLflow's own settings allow: the only form that has
    layers is a pickle. Raises ArtifactError then, and where there is no model or only an exported program.
    """
    require_store(uri, f"model={model_uri}")
    reach_store(uri)
    try:
        listed = get_artifact_repository(model_uri, tracking_uri=uri).list_artifacts(DATA)
        files = {PurePosixPath(each.path).name for each in listed}
        if not files:
            raise ArtifactError(f"model={model_uri}: there is no model of torch; see Models in the UI")
        if not allow_pickle and EXPORTED not in files:
            raise ArtifactError(
                f"model={model_uri}: is a pickle, which runs the code that it holds while it is loaded, so nothing of "
                f"it was loaded; if you trust it give allow_pickle=true, else model=module:factory and its weights as "
                f"checkpoint"
            )
        # An exported program is of no use here, and holds pickles as well.
        network = None if files & {EXPORTED, PICKLED} == {EXPORTED} else mlflow.pytorch.load_model(model_uri)
    except (MlflowException, OSError, ImportError, AttributeError, RuntimeError, pickle.UnpicklingError) as error:
        reason = redacted(" ".join(str(error).split()), uri)
        raise ArtifactError(f"model={model_uri}: cannot be loaded ({reason}); see Models in the UI") from error
    # The module of an exported program has no layers left, and a `train` of its own that refuses.
    if not isinstance(network, nn.Module) or "train" in vars(network):
        raise ArtifactError(
            f"model={model_uri} is an exported program without layers: log the network with "
            f"serialization_format='pickle' and give allow_pickle=true, or give model=module:factory and its weights "
            f"as checkpoint"
        )
    return network
