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

from training.arithmetic import is_mixed, layers_compute, loss_of
from training.blocks import Block, split
from training.devices import find_device, torch_threads
from training.errors import BlockError, TrainingDiverged
from training.fit_settings import FitSettings
from training.inference import check_finite_weights, check_fits, evaluating, weight_type
from training.splits import Split
from training.steps import Batch, Feed, check_batches, descend, make_feed, make_optimiser

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


@dataclass(frozen=True, eq=False)
class _Part:
    """A block with its classifier; an optimiser where any of it learns, and whether the block itself does."""

    name: str
    block: nn.Module
    head: nn.Module
    optimiser: torch.optim.Optimizer | None
    block_learns: bool

    def to_mode(self, learning: bool) -> None:
        self.block.train(learning and self.block_learns)
        self.head.train(learning and self.optimiser is not None)

    def learn(self, values: Tensor, batch: Batch, *, mixed: bool) -> tuple[Tensor, Tensor, Tensor]:
        """What the block makes of the values, its classifier's loss before the step, and how many labels it got right.

        What does not learn computes no gradient.
        """
        with torch.set_grad_enabled(self.optimiser is not None), layers_compute(values.device, mixed=mixed):
            with torch.set_grad_enabled(self.block_learns):
                made: Tensor = self.block(values)
            logits = self.head(made)
        loss = loss_of(logits, batch.labels)
        if self.optimiser is not None:
            descend(self.optimiser, loss, batch.rate)
        return made.detach(), loss.detach(), (logits.detach().argmax(1) == batch.labels).sum()


Callbacks = Sequence[Callable[[BlockEpoch], None]]


def fit_blocks(
    model: nn.Module,
    heads: Heads,
    train: Split,
    validation: Split,
    settings: FitSettings,
    *,
    cuts: Sequence[str] | None = None,
    learning: Collection[str] | None = None,
    callbacks: Callbacks = (),
) -> DecoupledFit:
    """Train a copy of the network block by block, each from its own head; the last one from the network's outputs.

    `heads` has a head for every block but the last, by the block's name; copies of them are trained too. `cuts` are
    those of :func:`training.split`. `learning` names the blocks that learn, with their heads; all others stay as they
    are to the last bit. The same seed, threads and machine give bit-identical weights on the CPU. All blocks see the
    same moved images and step at the same rate; validation is in float32.
    Raises before any work what :func:`training.fit` and :func:`training.split` raise, BlockError where the heads or
    `learning` name other blocks than there are; and TrainingDiverged, which names the block.
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
    callbacks: Callbacks = (),
) -> DecoupledFit:
    """Train copies of the heads on what the blocks of a trained network make; the network stays as it is.

    No gradient is computed for the network, and its BatchNorms keep their statistics. Raises as :func:`fit_blocks`.
    """
    return _fitted(model, heads, train, validation, settings, cuts, callbacks, None, blocks_learn=False)


def _fitted(
    model: nn.Module,
    heads: Heads,
    train: Split,
    validation: Split,
    settings: FitSettings,
    cuts: Sequence[str] | None,
    callbacks: Callbacks,
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
        _part(block, classifiers.get(block.name), block.name in chosen, settings, blocks_learn) for block in blocks
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


def _part(block: Block, head: nn.Module | None, learns: bool, settings: FitSettings, blocks_learn: bool) -> _Part:
    block_learns = learns and blocks_learn
    trained = [*(block.module.parameters() if block_learns else ()), *(head.parameters() if head and learns else ())]
    trained = [parameter for parameter in trained if parameter.requires_grad]
    optimiser = make_optimiser(trained, settings) if trained else None
    return _Part(block.name, block.module, head or nn.Identity(), optimiser, block_learns and optimiser is not None)


def _epoch(index: int, parts: Sequence[_Part], feed: Feed, validation: Split, device: torch.device) -> BlockEpoch:
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
    accuracies, sound = _accuracies(parts, validation, device)
    # The last step's weights have met no training loss yet.
    _refuse_lost(parts, sound, index, settings)
    return BlockEpoch(
        index=index,
        train_loss=_by_name(parts, losses / len(feed.labels)),
        train_accuracy=_by_name(parts, correct.cpu().double() / len(feed.labels)),
        validation_accuracy=_by_name(parts, accuracies),
        seconds=time.perf_counter() - start,
    )


def _by_name(parts: Sequence[_Part], values: Tensor) -> dict[str, float]:
    return dict(zip((part.name for part in parts), values.tolist(), strict=True))


def _refuse_lost(parts: Sequence[_Part], finite: Tensor, epoch: int, settings: FitSettings) -> None:
    """Name the first block whose values are not finite: those behind it read what it makes."""
    if not bool(finite.all()):
        raise TrainingDiverged(
            f"training of block {parts[finite.tolist().index(False)].name!r} diverged in epoch {epoch} at "
            f"learning_rate={settings.learning_rate:g}: the loss is not finite; lower the learning rate"
        )


def _accuracies(
    parts: Sequence[_Part], images: Split, device: torch.device, batch_size: int = 512
) -> tuple[Tensor, Tensor]:
    """The share of images that each block's classifier gets right, and whether its outputs are finite, on the CPU."""
    correct = torch.zeros(len(parts), dtype=torch.int64, device=device)
    finite = torch.ones(len(parts), dtype=torch.bool, device=device)
    whole = nn.ModuleList([module for part in parts for module in (part.block, part.head)])
    with evaluating(whole), torch.no_grad():
        for first in range(0, len(images), batch_size):
            values = images.images[first : first + batch_size].to(device, weight_type(whole))
            labels = images.labels[first : first + batch_size].to(device)
            for place, part in enumerate(parts):
                values = part.block(values)
                logits = part.head(values)
                correct[place] += (logits.argmax(1) == labels).sum()
                finite[place] &= torch.isfinite(logits).all()
    return correct.cpu().double() / len(images), finite.cpu()
