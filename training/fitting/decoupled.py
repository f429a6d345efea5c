"""Training a network block by block: every block learns from its own head, on what the blocks before it make.

No gradient leaves a block. All blocks learn in the same pass over the images, each with an optimiser of its own, so a
block sees the ones before it as they are by then.
Source: Belilovsky, Eickenberg, Oyallon, "Decoupled Greedy Learning of CNNs", ICML 2020 (its synchronous form).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.data import Split
from training.devices import find_device, torch_threads
from training.errors import BlockError, TrainingDiverged
from training.fitting.blocks import Block, split
from training.fitting.fit_settings import FitSettings
from training.fitting.learning_blocks import LearningBlock, accuracies_of, learning_block
from training.fitting.optimisation import Feed, check_batches, make_feed
from training.fitting.precision import is_mixed
from training.inference import check_finite_weights, check_fits, weight_type

Heads = Mapping[str, nn.Module]


@dataclass(frozen=True)
class BlockEpoch:
    """One pass over the training images: for each block that has a classifier its mean loss (nats) and accuracies."""

    index: int
    train_loss: dict[str, float]
    train_accuracy: dict[str, float]
    validation_accuracy: dict[str, float]
    seconds: float


@dataclass(frozen=True, eq=False)
class DecoupledFit:
    """The network and the heads of its blocks, on the CPU and in evaluation mode, and what each epoch measured."""

    model: nn.Module
    heads: dict[str, nn.Module]
    epochs: tuple[BlockEpoch, ...]


BlockCallbacks = Sequence[Callable[[BlockEpoch], None]]


def fit_blocks(
    model: nn.Module,
    heads: Heads,
    train: Split,
    validation: Split,
    settings: FitSettings,
    *,
    cuts: Sequence[str] | None = None,
    learning: Collection[str] | None = None,
    callbacks: BlockCallbacks = (),
) -> DecoupledFit:
    """Train a copy of the network block by block, each from its own head; the last one from the network's outputs.

    All blocks see the same moved images and step at the same rate; validation is in float32. The same seed, threads and
    machine give bit-identical weights on the CPU.

    Args:
        model: left as it was.
        heads: one for every block but the last, by the block's name; copies of them are trained too.
        train, validation: images and labels.
        settings: of the training, the same for all blocks.
        cuts: as for `split`.
        learning: names of the blocks that learn, with their heads; all others stay as they are to the last bit.
        callbacks: called with every block's finished epoch.

    Raises:
        BlockError: heads or `learning` name other blocks than there are; this, and what `fit` and `split` raise, before
            any work.
        TrainingDiverged: a loss is not finite; names the block.

    Source: Belilovsky, Eickenberg, Oyallon, "Decoupled Greedy Learning of CNNs", ICML 2020 (its synchronous form).
    """
    return _fitted(model, heads, train, validation, settings, cuts, callbacks, learning, blocks_learn=True)


def fit_heads(
    model: nn.Module,
    heads: Heads,
    train: Split,
    validation: Split,
    settings: FitSettings,
    *,
    cuts: Sequence[str] | None = None,
    callbacks: BlockCallbacks = (),
) -> DecoupledFit:
    """Train copies of the heads on what the blocks of a trained network make; the network stays as it is.

    No gradient is computed for the network, and its BatchNorms keep their statistics.

    Args:
        model, heads, train, validation, settings, cuts, callbacks: as for `fit_blocks`.

    Raises:
        BlockError, TrainingDiverged: as `fit_blocks`, with what `fit` and `split` raise.
    """
    return _fitted(model, heads, train, validation, settings, cuts, callbacks, None, blocks_learn=False)


def _fitted(
    model: nn.Module,
    heads: Heads,
    train: Split,
    validation: Split,
    settings: FitSettings,
    cuts: Sequence[str] | None,
    callbacks: BlockCallbacks,
    learning: Collection[str] | None,
    *,
    blocks_learn: bool,
) -> DecoupledFit:
    device = find_device(settings.device)
    check_finite_weights(model)
    for images in (train, validation):
        check_fits(model, images)
    check_batches([*heads.values(), *([model] if blocks_learn else [])], train, settings)
    network = copy.deepcopy(model).to(device)
    blocks = split(network, train.images[:1], cuts)
    _refuse_names(blocks, heads, learning)
    classifiers = {name: copy.deepcopy(head).to(device) for name, head in heads.items()}
    chosen = {block.name for block in blocks} if learning is None else set(learning)
    parts = [
        learning_block(block, classifiers.get(block.name), block.name in chosen, settings, blocks_learn)
        for block in blocks
    ]
    cards = [device.index or 0] if device.type == "cuda" else []
    epochs = []
    with torch_threads(settings.threads), torch.random.fork_rng(devices=cards):
        torch.default_generator.manual_seed(settings.seed)
        for card in cards:
            torch.cuda.default_generators[card].manual_seed(settings.seed)
        feed = make_feed(train, settings, device, weight_type(network))
        for index in range(1, settings.epochs + 1):
            epoch = _epoch(index, parts, feed, validation, device)
            epochs.append(epoch)
            for callback in callbacks:
                callback(epoch)
    fitted = {name: head.to("cpu").eval() for name, head in classifiers.items()}
    return DecoupledFit(network.to("cpu").eval(), fitted, tuple(epochs))


def _refuse_names(blocks: Sequence[Block], heads: Heads, learning: Collection[str] | None) -> None:
    names = [block.name for block in blocks]
    if set(heads) != set(names[:-1]):
        raise BlockError(
            f"heads are given for {', '.join(heads) or 'no block'}, and needed for every block but the last: "
            f"{', '.join(names[:-1]) or 'none'}"
        )
    if unknown := sorted(set(learning or ()) - set(names)):
        raise BlockError(f"there is no block {unknown[0]!r}: the blocks are {', '.join(names)}")


def _epoch(
    index: int, parts: Sequence[LearningBlock], feed: Feed, validation: Split, device: torch.device
) -> BlockEpoch:
    start, settings = time.perf_counter(), feed.settings
    mixed = is_mixed(settings.precision, device)
    for part in parts:
        part.to_mode(learning=True)
    # On the device, and all parts' at once: what is read there holds up all that follows.
    losses, correct = torch.zeros(len(parts), device=device), torch.zeros(len(parts), dtype=torch.int64, device=device)
    for batch in feed.epoch(index):
        values, found = batch.images, []
        for part in parts:
            values, *measured = part.learn(values, batch, mixed=mixed)
            found.append(measured)
        losses += torch.stack([loss for loss, _ in found]) * len(batch)
        correct += torch.stack([right for _, right in found])
        if batch.looked_at:
            _refuse_lost(parts, torch.isfinite(losses), index, settings)
    accuracies, sound = accuracies_of(parts, validation, device)
    # The last step's weights have met no training loss yet.
    _refuse_lost(parts, sound, index, settings)
    return BlockEpoch(
        index=index,
        train_loss=_by_name(parts, losses / len(feed.labels)),
        train_accuracy=_by_name(parts, correct.cpu().double() / len(feed.labels)),
        validation_accuracy=_by_name(parts, accuracies),
        seconds=time.perf_counter() - start,
    )


def _by_name(parts: Sequence[LearningBlock], values: Tensor) -> dict[str, float]:
    return dict(zip((part.name for part in parts), values.tolist(), strict=True))


def _refuse_lost(parts: Sequence[LearningBlock], finite: Tensor, epoch: int, settings: FitSettings) -> None:
    """Name the first block whose values are not finite: those behind it read what it makes."""
    if not bool(finite.all()):
        raise TrainingDiverged(
            f"training of block {parts[finite.tolist().index(False)].name!r} diverged in epoch {epoch} at "
            f"learning_rate={settings.learning_rate:g}: the loss is not finite; lower the learning rate"
        )
