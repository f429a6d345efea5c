"""Training a network, before pruning and after it."""

import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import training
from flows.adapters import artifacts, dataset_of, device_of, fit_settings_of, network_of
from flows.cache import EarlierResult, OnPart, StageResult, unheard
from flows.config import Settings
from training import Dataset, Epoch, Masks, Zeros

TRIED = 1000  # images that a checkpoint is tried on
FAR, GUESS = 0.05, 0.1  # of accuracy: below what a file says; of what is left to win over the most frequent class
LOG = logging.getLogger(__name__)


def train_network(settings: Settings, *, on_part: OnPart = unheard) -> StageResult:
    """Train the settings' network; leaves its weights."""
    result = StageResult(on_part)
    dataset = dataset_of(settings)
    network = network_of(settings, dataset)
    log_data(settings, result, network, dataset)
    if settings.epochs == 0 and settings.checkpoint:
        warn_of_bad_start(settings, network, dataset)
    artifacts.log_weights(result, _fit(settings, result, network, dataset, epochs=settings.epochs))
    return result


def warn_of_bad_start(settings: Settings, network: nn.Module, dataset: Dataset) -> None:
    """Say where a checkpoint that is taken as it is does far worse here than its file says, or little else than guess.

    Args:
        settings: with the checkpoint.
        network: that has its weights.
        dataset: on whose validation images it is tried.
    """
    images, labels = dataset.validation.images[:TRIED], dataset.validation.labels[:TRIED]
    right = training.predict(network, images, device=device_of(settings)).argmax(1) == labels
    found, often = float(right.float().mean()), float(torch.bincount(labels).max()) / len(labels)
    said = training.accuracy_said(training.read_file(settings.checkpoint))
    remedy = "look at mean and std, channels, image_size and the order of the classes"
    if said is not None and found < said - FAR:
        LOG.warning(
            "train    the file of %s says %.1f %%, of %d validation images here it gets %.1f %% right: %s",
            *(Path(settings.checkpoint).name, 100 * said, len(labels), 100 * found, remedy),
        )
    elif found <= often + GUESS * (1 - often):
        LOG.warning(
            "train    with the weights of %s %.1f %% of %d validation images are right, and %.1f %% of one class: %s",
            *(Path(settings.checkpoint).name, 100 * found, len(labels), 100 * often, remedy),
        )


def log_data(settings: Settings, result: StageResult, network: nn.Module, dataset: Dataset) -> None:
    """Log what is trained on what: the network's size and the data set's parts."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    sizes = f"{len(dataset.train)} training, {len(dataset.validation)} validation, {len(dataset.test)} test images"
    LOG.info("train    %s, %d parameters, on %s: %s", settings.model, parameters, settings.dataset, sizes)
    result.add_metrics({"parameters": parameters})
    for context, split in (("train", dataset.train), ("validation", dataset.validation), ("test", dataset.test)):
        result.add_dataset(settings.dataset, split.images, split.labels, context=context, digest=split.digest())


def retrain_network(settings: Settings, pruned: EarlierResult, *, on_part: OnPart = unheard) -> StageResult:
    """Train the network that a run pruned, removed units staying removed; leaves its weights and its masks."""
    result = StageResult(on_part)
    dataset = dataset_of(settings)
    network = artifacts.logged_network(pruned, settings, dataset)
    masks = artifacts.logged_masks(pruned)
    final = _fit(settings, result, network, dataset, epochs=settings.retrain_epochs, masks=masks, name="retrain")
    artifacts.log_weights(result, final)
    artifacts.log_masks(result, masks)
    return result


def train_sparse_network(settings: Settings, chosen: EarlierResult, *, on_part: OnPart = unheard) -> StageResult:
    """Train the settings' network from its first weights, held at 0 where a run has chosen that; leaves its weights.

    As `train_network` otherwise. Nothing is traced here, so several may be at work in one process.
    """
    result = StageResult(on_part)
    dataset = dataset_of(settings)
    network, held = network_of(settings, dataset), artifacts.logged_connections(chosen)
    final = _fit(settings, result, network, dataset, epochs=settings.epochs, connections=held, name="snip")
    artifacts.log_weights(result, final)
    return result


def _fit(
    settings: Settings,
    result: StageResult,
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
        callbacks=[report_epochs(result, name, epochs)],
    ).model


def report_epochs(result: StageResult, name: str, epochs: int) -> Callable[[Epoch], None]:
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
        result.add_metrics(figures, step=epoch.index)

    return report
