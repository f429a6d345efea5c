"""Networks as MLflow models: logging the final one, loading one by its address."""

import pickle
from collections.abc import Sequence
from pathlib import PurePosixPath

import mlflow
import mlflow.pytorch
import torch
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from torch import Tensor, nn

from flows.errors import ArtifactError
from flows.redaction import redacted
from flows.tracking.logged_run import Run
from flows.tracking.stores import reach_store, reached, require_store

NAME = "network"
DATA, EXPORTED, PICKLED = "data", "model.pt2", "model.pth"  # where MLflow puts a torch model


def log_network(run: Run, network: nn.Module, images: Tensor, requirements: Sequence[str]) -> str:
    """Log the network as an MLflow model with its signature, once; the model's address.

    `images` [n, C, H, W] is the example, n >= 2: torch.export takes a batch of one for a constant. It is brought to the
    floating type of the weights, which the signature then asks for. MLflow ends the run as FINISHED: log nothing after.
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
    with reached(run.uri), mlflow.start_run(run_id=run.run_id, nested=True):
        logged = mlflow.pytorch.log_model(
            network,
            name=NAME,
            signature=signature,
            input_example=images.numpy(),
            pip_requirements=list(requirements),
        )
    return str(logged.model_uri)


def _logged(client: MlflowClient, run: Run) -> str:
    """The address of the run's model; one whose logging was interrupted is deleted."""
    found = client.search_logged_models([run.experiment_id], f"source_run_id = '{run.run_id}'")
    ready = [model for model in found if model.status == LoggedModelStatus.READY]
    for model in found:
        if model not in ready:
            client.delete_logged_model(model.model_id)
    return f"models:/{ready[0].model_id}" if ready else ""


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
