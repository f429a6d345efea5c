"""Blocks that learn from their own heads: a step on a batch, and accuracies on images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from training.data import Split
from training.fitting.blocks import Block
from training.fitting.fit_settings import FitSettings
from training.fitting.optimisation import Batch, descend, make_optimiser
from training.fitting.precision import layers_compute, loss_of
from training.inference import evaluating, weight_type


@dataclass(frozen=True, eq=False)
class LearningBlock:
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


def learning_block(
    block: Block, head: nn.Module | None, learns: bool, settings: FitSettings, blocks_learn: bool
) -> LearningBlock:
    """A block and its head with an optimiser for what learns of them."""
    block_learns = learns and blocks_learn
    trained = [*(block.module.parameters() if block_learns else ()), *(head.parameters() if head and learns else ())]
    trained = [parameter for parameter in trained if parameter.requires_grad]
    optimiser = make_optimiser(trained, settings) if trained else None
    return LearningBlock(
        block.name, block.module, head or nn.Identity(), optimiser, block_learns and optimiser is not None
    )


def accuracies_of(
    parts: Sequence[LearningBlock], images: Split, device: torch.device, batch_size: int = 512
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
