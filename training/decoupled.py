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
from torch.nn.functional import cross_entropy

from training.blocks import Block, split
from training.devices import find_device, torch_threads
from training.errors import BlockError, TrainingDiverged
from training.inference import check_finite_weights, check_fits, evaluating, weight_type
from training.loop import FitSettings, batches, make_optimiser
from training.splits import Split

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

    def makes(self, values: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.block_learns):
            made: Tensor = self.block(values)
        return made


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
    are to the last bit. The same seed, threads and machine give bit-identical weights on the CPU.
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
        shuffle = torch.Generator().manual_seed(settings.seed)
        for index in range(1, settings.epochs + 1):
            epoch = _epoch(index, parts, train, validation, settings, shuffle)
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


def _epoch(
    index: int,
    parts: Sequence[_Part],
    train: Split,
    validation: Split,
    settings: FitSettings,
    shuffle: torch.Generator,
) -> BlockEpoch:
    start = time.perf_counter()
    for part in parts:
        part.to_mode(learning=True)
    device, kind = find_device(settings.device), weight_type(parts[0].block)
    losses, correct = dict.fromkeys((part.name for part in parts), 0.0), dict.fromkeys((p.name for p in parts), 0)
    for batch in batches(len(train), settings.batch_size, shuffle):
        values, target = train.images[batch].to(device, kind), train.labels[batch].to(device)
        for part in parts:
            made = part.makes(values)
            logits = part.head(made)
            loss = cross_entropy(logits, target)
            if not bool(torch.isfinite(loss)):
                raise TrainingDiverged(
                    f"training of block {part.name!r} diverged in epoch {index} at learning_rate="
                    f"{settings.learning_rate:g}: the loss is not finite; lower the learning rate"
                )
            if part.optimiser is not None:
                part.optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                part.optimiser.step()
            losses[part.name] += float(loss.detach()) * len(batch)
            correct[part.name] += int((logits.detach().argmax(1) == target).sum())
            values = made.detach()
    return BlockEpoch(
        index=index,
        train_loss={name: value / len(train) for name, value in losses.items()},
        train_accuracy={name: value / len(train) for name, value in correct.items()},
        validation_accuracy=_accuracies(parts, validation, device),
        seconds=time.perf_counter() - start,
    )


def _accuracies(parts: Sequence[_Part], images: Split, device: torch.device, batch_size: int = 512) -> dict[str, float]:
    """The share of images that each block's classifier gets right."""
    correct = dict.fromkeys((part.name for part in parts), 0)
    whole = nn.ModuleList([module for part in parts for module in (part.block, part.head)])
    with evaluating(whole), torch.no_grad():
        for first in range(0, len(images), batch_size):
            values = images.images[first : first + batch_size].to(device, weight_type(whole))
            labels = images.labels[first : first + batch_size].to(device)
            for part in parts:
                values = part.block(values)
                correct[part.name] += int((part.head(values).argmax(1) == labels).sum())
    return {name: count / len(images) for name, count in correct.items()}
