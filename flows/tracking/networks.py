"""Networks as MLflow models: logging the final one, loading one by its address."""

import pickle
from collections.abc import Sequence

import mlflow
import mlflow.pytorch
import torch
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from torch import Tensor, nn

from flows.errors import HandOverError
from flows.tracking.runs import Run
from flows.tracking.stores import reached, require_store, settle_mlflow

NAME = "network"


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


def load_logged_network(uri: str, model_uri: str) -> nn.Module:
    """The network of an MLflow model address such as `models:/name/1` or `runs:/<id>/network` in the store at `uri`.

    Raises HandOverError where there is none, or only an exported program.
    """
    require_store(uri, f"model={model_uri}")
    settle_mlflow()
    mlflow.set_tracking_uri(uri)
    try:
        network = mlflow.pytorch.load_model(model_uri)
    except (MlflowException, OSError, ImportError, AttributeError, RuntimeError, pickle.UnpicklingError) as error:
        reason = " ".join(str(error).split())
        raise HandOverError(f"model={model_uri}: cannot be loaded ({reason}); see Models in the UI") from error
    # The module of an exported program has no layers left, and a `train` of its own that refuses.
    if not isinstance(network, nn.Module) or "train" in vars(network):
        raise HandOverError(
            f"model={model_uri} is an exported program without layers: log the network with "
            f"serialization_format='pickle', or give model=module:factory and its weights as checkpoint"
        )
    return network
