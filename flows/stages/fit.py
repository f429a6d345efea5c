"""Training a network, before pruning and after it."""

import logging
from collections.abc import Callable
from importlib.metadata import version

from torch import nn

import training
from flows import handover, tracking
from flows.settings import Settings
from flows.tracking import Run
from flows.translation import dataset_of, fit_settings_of, network_of
from training import Dataset, Epoch, Masks, Zeros

LOG = logging.getLogger(__name__)
REQUIREMENTS = ("mlflow", "torch", "numpy")


def train_network(settings: Settings, run: Run) -> None:
    """Train the settings' network; leaves its weights."""
    dataset = dataset_of(settings)
    network = network_of(settings, dataset)
    log_data(settings, run, network, dataset)
    handover.save_weights(run, _fit(settings, run, network, dataset, epochs=settings.epochs))


def log_data(settings: Settings, run: Run, network: nn.Module, dataset: Dataset) -> None:
    """Log what is trained on what: the network's size and the data set's parts."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    sizes = f"{len(dataset.train)} training, {len(dataset.validation)} validation, {len(dataset.test)} test images"
    LOG.info("train    %s, %d parameters, on %s: %s", settings.model, parameters, settings.dataset, sizes)
    tracking.log_metrics(run, {"parameters": parameters})
    for context, split in (("train", dataset.train), ("validation", dataset.validation), ("test", dataset.test)):
        tracking.log_dataset(run, settings.dataset, split.images, split.labels, context=context, digest=split.digest())


def retrain_network(settings: Settings, run: Run, pruned: Run) -> None:
    """Train the network that a run pruned, removed units staying removed; leaves its weights and its masks."""
    dataset = dataset_of(settings)
    network = handover.load_network(pruned, settings, dataset)
    masks = handover.load_masks(pruned)
    final = _fit(settings, run, network, dataset, epochs=settings.retrain_epochs, masks=masks, name="retrain")
    handover.save_weights(run, final)
    handover.save_masks(run, masks)


def train_sparse(settings: Settings, run: Run, chosen: Run) -> None:
    """Train the settings' network from its first weights, held at 0 where a run has chosen that; leaves its weights.

    As `train_network` otherwise. Nothing is traced here, so several may be at work in one process.
    """
    dataset = dataset_of(settings)
    network, held = network_of(settings, dataset), handover.load_connections(chosen)
    final = _fit(settings, run, network, dataset, epochs=settings.epochs, connections=held, name="snip")
    handover.save_weights(run, final)


def log_final_network(settings: Settings, run: Run) -> None:
    """Log the network whose weights a run logged as an MLflow model, which ends the run."""
    dataset = dataset_of(settings)
    network = handover.load_network(run, settings, dataset)
    requirements = [f"{name}=={version(name)}" for name in REQUIREMENTS]
    uri = tracking.log_network(run, network, dataset.test.images[:2], requirements)
    LOG.info("model    final network logged as %s", uri)


def _fit(
    settings: Settings,
    run: Run,
    network: nn.Module,
    dataset: Dataset,
    *,
    epochs: int,
    masks: Masks | None = None,
    connections: Zeros | None = None,
    name: str = "train",
) -> nn.Module:
    if epochs == 0:
        LOG.info("%-8s no epochs: the weights stay as they are", name)
        return network
    fit_settings = fit_settings_of(settings, epochs)
    return training.fit(
        network,
        dataset.train,
        dataset.validation,
        fit_settings,
        masks=masks,
        connections=connections,
        callbacks=[report_epochs(run, name, epochs)],
    ).model


def report_epochs(run: Run, name: str, epochs: int) -> Callable[[Epoch], None]:
    """What logs an epoch, as a line that begins with the stage's name and as figures of the run."""

    def report(epoch: Epoch) -> None:
        LOG.info(
            "%-8s epoch %d of %d: loss %.4f, validation accuracy %.2f %% (%.1f s)",
            *(name, epoch.index, epochs, epoch.train_loss, 100 * epoch.validation_accuracy, epoch.seconds),
        )
        figures = {
            "train_loss": epoch.train_loss,
            "train_accuracy": epoch.train_accuracy,
            "validation_loss": epoch.validation_loss,
            "validation_accuracy": epoch.validation_accuracy,
        }
        tracking.log_metrics(run, figures, step=epoch.index)

    return report
