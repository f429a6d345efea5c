"""The training loop: seeded, bare, with callbacks; removed units stay removed."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from training.data import Split
from training.devices import find_device, torch_threads
from training.errors import FitSettingsError, ModelError, TrainingDiverged
from training.fitting.fit_settings import FitSettings
from training.fitting.optimisation import Feed, check_batches, descend, make_feed, make_optimiser
from training.fitting.precision import is_mixed, layers_compute, loss_of
from training.inference import check_finite_weights, check_fits, predict, weight_type
from training.pruning import Masks, Zeros, hold_at_zero, joined_zeros, removed_entries, validate_zeros


@dataclass(frozen=True)
class Epoch:
    """One pass over the training images: mean losses (nats), accuracies in [0, 1], seconds with the validation.

    The training figures are means over the pass, so early batches count with the weights they met.
    """

    index: int
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float


@dataclass(frozen=True, eq=False)
class FitResult:
    """The trained model, on the CPU and in evaluation mode, what each epoch measured, and its early copy if any."""

    model: nn.Module
    epochs: tuple[Epoch, ...]
    early: nn.Module | None = None


@dataclass(frozen=True)
class Evaluation:
    """Share of images classified correctly, in [0, 1], their mean cross-entropy (nats), and how many there were."""

    accuracy: float
    loss: float
    images: int


def evaluate(model: nn.Module, split: Split, *, batch_size: int = 512, device: str = "cpu") -> Evaluation:
    """Accuracy and mean cross-entropy of the model in evaluation mode.

    Args:
        model: left as it was.
        split: images [n, C, H, W] and labels [n].
        batch_size: images per pass.
        device: where the passes run.

    Raises:
        FitSettingsError, DeviceError: a batch size below 1, no such device.
        ModelError: images do not fit the model, weights or outputs are not finite.
        LabelError: a label that the model has no output for.
    """
    if batch_size < 1:
        raise FitSettingsError(f"batch_size={batch_size} is out of range: use 1 or more")
    check_fits(model, split)
    logits = predict(model, split.images, batch_size=batch_size, device=device).double()
    accuracy = (logits.argmax(1) == split.labels).double().mean()
    return Evaluation(float(accuracy), float(cross_entropy(logits, split.labels)), len(split))


def fit(
    model: nn.Module,
    train: Split,
    validation: Split,
    settings: FitSettings,
    *,
    masks: Masks | None = None,
    connections: Zeros | None = None,
    callbacks: Sequence[Callable[[Epoch], None]] = (),
    early: int = 0,
) -> FitResult:
    """Train a copy of the model with cross-entropy.

    The same seed, threads and machine give bit-identical weights on the CPU; torch's global generators are left as they
    were. Removed entries are set to 0 before the first step and again after every step, so that neither momentum nor
    weight decay revives them. Validation is in float32.

    Args:
        model: left as it was.
        train, validation: images [n, C, H, W] and labels [n].
        settings: epochs, rate, optimiser, seed, threads, device.
        masks: by layer, bool [units]: units that are False stay removed.
        connections: by key of the state dict, bools of its shape: entries held at 0, with masks or without.
        callbacks: called with every finished epoch.
        early: the epoch after which a copy is kept as well, 0: none; a falling rate falls for all epochs, so that this
            is not what `early` epochs alone give.

    Raises:
        DeviceError, ModelError, LabelError, FitSettingsError, MaskError, UnsupportedGraph: before any work.
        TrainingDiverged: a loss is not finite; names the epoch and the learning rate.
    """
    device = find_device(settings.device)
    check_finite_weights(model)
    for split in (train, validation):
        check_fits(model, split)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ModelError("the model has no trainable parameters: nothing can be fitted")
    check_batches([model], train, settings)
    if not 0 <= early <= settings.epochs:
        raise FitSettingsError(f"early={early} is out of range: use 0 to {settings.epochs}, the epochs of the training")
    validate_zeros(model, connections or {})
    zeros = joined_zeros(removed_entries(model, masks, train.images[:1]) if masks else {}, connections or {})
    cards = [device.index or 0] if device.type == "cuda" else []
    with torch_threads(settings.threads), torch.random.fork_rng(devices=cards):
        torch.default_generator.manual_seed(settings.seed)
        for card in cards:
            torch.cuda.default_generators[card].manual_seed(settings.seed)
        return _fit(copy.deepcopy(model).to(device), train, validation, settings, zeros, callbacks, early)


def _fit(
    model: nn.Module,
    train: Split,
    validation: Split,
    settings: FitSettings,
    zeros: Zeros,
    callbacks: Sequence[Callable[[Epoch], None]],
    early: int,
) -> FitResult:
    kept: nn.Module | None = None
    device = find_device(settings.device)
    feed = make_feed(train, settings, device, weight_type(model))
    zeros = {key: removed.to(device) for key, removed in zeros.items()}
    hold_at_zero(model, zeros)
    optimiser = make_optimiser([each for each in model.parameters() if each.requires_grad], settings)
    epochs = []
    for index in range(1, settings.epochs + 1):
        start = time.perf_counter()
        train_loss, train_accuracy = _pass(model, feed, optimiser, zeros, index)
        measured = validate_epoch(model, validation, index, settings)
        epoch = Epoch(
            index=index,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            validation_loss=measured.loss,
            validation_accuracy=measured.accuracy,
            seconds=time.perf_counter() - start,
        )
        epochs.append(epoch)
        if index == early:
            kept = copy.deepcopy(model).to("cpu").eval()
        for callback in callbacks:
            callback(epoch)
    return FitResult(model.to("cpu").eval(), tuple(epochs), kept)


def _pass(
    model: nn.Module, feed: Feed, optimiser: torch.optim.Optimizer, zeros: Zeros, index: int
) -> tuple[float, float]:
    """Train for one epoch; the mean loss and the accuracy over its batches."""
    device = feed.labels.device
    mixed = is_mixed(feed.settings.precision, device)
    model.train()
    loss_sum, correct = torch.zeros((), device=device), torch.zeros((), dtype=torch.int64, device=device)
    for batch in feed.epoch(index):
        with layers_compute(device, mixed=mixed):
            logits = model(batch.images)
        loss = loss_of(logits, batch.labels)
        descend(optimiser, loss, batch.rate)
        hold_at_zero(model, zeros)
        loss_sum += loss.detach() * len(batch)
        correct += (logits.detach().argmax(1) == batch.labels).sum()
        if batch.looked_at and not bool(torch.isfinite(loss_sum)):
            raise _diverged(index, feed.settings)
    return float(loss_sum) / len(feed.labels), int(correct) / len(feed.labels)


def validate_epoch(model: nn.Module, validation: Split, epoch: int, settings: FitSettings) -> Evaluation:
    try:
        return evaluate(model, validation, device=settings.device)
    except ModelError as error:
        # The last step's weights have met no training loss yet; the shapes were right before the first step.
        raise _diverged(epoch, settings) from error


def _diverged(epoch: int, settings: FitSettings) -> TrainingDiverged:
    return TrainingDiverged(
        f"training diverged in epoch {epoch} at learning_rate={settings.learning_rate:g}: the loss is not finite; "
        f"lower the learning rate"
    )
