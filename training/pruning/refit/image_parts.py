"""Images of a refit in two parts, to fit to and to choose the ridge by, with the passes of both networks over each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from training.data import ImageBatches
from training.pruning.refit.passes import KEPT, LayerOutputs, MemoryBudget, Passes, passes_over

HELD_BACK = 5  # every fifth image chooses the ridge


@dataclass(frozen=True, eq=False)
class ImagePart:
    """Passes of both networks over some of the images; `held_back`: those that choose the ridge."""

    held_back: bool
    network: list[Passes]
    dense: list[Passes]


@dataclass(frozen=True, eq=False)
class ImageParts:
    """The images, batch by batch, in four of five and every fifth.

    `kept`: the parts of a tensor of images, whose passes hand on what they have computed. Batches may come in another
    order each time that they are asked for, so nothing is kept of them.
    """

    network: nn.Module
    dense: nn.Module
    images: ImageBatches
    outputs: LayerOutputs
    kept: list[ImagePart] | None = None

    @classmethod
    def of(cls, network: nn.Module, dense: nn.Module, images: ImageBatches) -> ImageParts:
        """The parts of images [n, C, H, W], or of batches of them."""
        parts = cls(network, dense, images, LayerOutputs.of(dense, images.first()))
        return replace(parts, kept=list(parts._made(KEPT))) if isinstance(images.source, Tensor) else parts

    def __iter__(self) -> Iterator[ImagePart]:
        return iter(self.kept) if self.kept is not None else self._made(0)

    def _made(self, kept: int) -> Iterator[ImagePart]:
        few, seen = len(self.images.first(HELD_BACK)), 0
        own, of_dense = MemoryBudget(kept), MemoryBudget(kept)
        for batch in self.images:
            held = torch.arange(seen, seen + len(batch)) % HELD_BACK == HELD_BACK - 1
            if few < HELD_BACK and seen + len(batch) == few:
                held[-1] = few > 1
            seen += len(batch)
            for back in (False, True):
                if bool((held == back).any()):
                    images = batch[held == back]
                    targets = passes_over(self.dense, images, constant=True, budget=of_dense, outputs=self.outputs)
                    yield ImagePart(back, passes_over(self.network, images, budget=own, outputs=self.outputs), targets)
