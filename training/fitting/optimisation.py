"""Optimisation steps: a batch of images, the optimiser, and its rate."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from training.data import Split, check_augmentable, draw_moves, flip_crop
from training.errors import FitSettingsError
from training.fitting.fit_settings import FitSettings
from training.pruning import NORMS

AUGMENTING = 1_000_003  # sets the moves' draws apart from the order of the images, which the seed alone decides
LOOKED_AT_EVERY = 32  # batches: a look at a number waits for the card that computes it


@dataclass(frozen=True, eq=False)
class Batch:
    """Images [n, C, H, W] and labels [n] of one step, its learning rate, and whether to look at the losses after it."""

    images: Tensor
    labels: Tensor
    rate: float
    looked_at: bool

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Feed:
    """The training images where they are computed with; their order and their moves are drawn from a generator each."""

    images: Tensor
    labels: Tensor
    settings: FitSettings
    order: torch.Generator
    moving: torch.Generator

    def epoch(self, index: int) -> Iterator[Batch]:
        """The batches of epoch `index`, counted from 1: every image once, in an order of this epoch's own."""
        count, device = len(self.labels), self.images.device
        # Drawn on the CPU, so that all devices see the same, and handed over once for the whole epoch.
        moves = draw_moves(count, self.moving).to(device) if self.settings.augment == "flip_crop" else None
        parts = list(batches(count, self.settings.batch_size, self.order, device))
        for number, rows in enumerate(parts, start=1):
            images = self.images[rows] if moves is None else flip_crop(self.images[rows], moves[rows])
            yield Batch(
                images,
                self.labels[rows],
                rate=rate_of((index - 1) * len(parts) + number - 1, self.settings.epochs * len(parts), self.settings),
                looked_at=number % LOOKED_AT_EVERY == 0 or number == len(parts),
            )


def make_feed(train: Split, settings: FitSettings, device: torch.device, kind: torch.dtype) -> Feed:
    """The images of the split on the device, in floats of this kind."""
    moves_seed = int(np.random.SeedSequence([settings.seed, AUGMENTING]).generate_state(1)[0])
    order, moving = (torch.Generator().manual_seed(seed) for seed in (settings.seed, moves_seed))
    return Feed(train.images.to(device, kind), train.labels.to(device), settings, order, moving)


def batches(
    images: int, batch_size: int, generator: torch.Generator, device: torch.device | str = "cpu"
) -> Iterator[Tensor]:
    """A permutation of the positions 0 .. images-1 in batches; a lone last image joins the batch before it."""
    order = torch.randperm(images, generator=generator).to(device)
    starts = list(range(0, images, batch_size))
    # BatchNorm has no variance over a single image.
    if len(starts) > 1 and batch_size > 1 and images - starts[-1] == 1:
        starts.pop()
    for start, stop in zip(starts, [*starts[1:], images], strict=True):
        yield order[start:stop]


def rate_of(step: int, steps: int, settings: FitSettings) -> float:
    """The learning rate of a step, counted from 0, of so many."""
    if settings.rate_schedule == "constant":
        return settings.learning_rate
    return settings.learning_rate * (1.0 + math.cos(math.pi * step / steps)) / 2.0


def make_optimiser(parameters: Sequence[nn.Parameter], settings: FitSettings) -> torch.optim.Optimizer:
    """The optimiser of these parameters that the settings name."""
    rate, decay = settings.learning_rate, settings.weight_decay
    if settings.optimiser == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay)
    return torch.optim.SGD(parameters, lr=rate, momentum=settings.momentum, weight_decay=decay)


def descend(optimiser: torch.optim.Optimizer, loss: Tensor, rate: float) -> None:
    """One step of the optimiser at this rate, by the loss's gradient alone."""
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad(set_to_none=True)
    # torch leaves this method untyped.
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def check_batches(modules: Sequence[nn.Module], train: Split, settings: FitSettings) -> None:
    """Raise SettingsError where the modules cannot learn from such batches, or the images cannot be augmented."""
    norms = any(isinstance(part, NORMS) for module in modules for part in module.modules())
    if norms and min(settings.batch_size, len(train)) < 2:
        raise FitSettingsError("a batch of one image is too small for a model with BatchNorm: use batch_size 2 or more")
    if settings.augment == "flip_crop":
        check_augmentable(train.images)
