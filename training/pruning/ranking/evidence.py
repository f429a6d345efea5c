"""Evidence: all that a ranking rule may look at."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from training.data import Split
from training.errors import SelectionError
from training.pruning.selection import Scores


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a rule may look at.

    `images` [n, C, H, W] in [0, 1] with their `labels` [n]; `layers`, by name, whose units are scored; `seed` and
    `draw` of what is left to chance; `scores`, the program's, for rules about them; images per pass and the device.
    Raises SelectionError where a layer is missing or named twice or a number is out of range, DataError and LabelError
    where images or labels are wrong.
    """

    model: nn.Module
    images: Tensor
    labels: Tensor
    layers: tuple[str, ...]
    seed: int = 0
    scores: Scores | None = None
    batch_size: int = 512
    device: str = "cpu"
    draw: int = 0

    def __post_init__(self) -> None:
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise SelectionError(f"layers={self.layers}: name one layer or more, each once")
        if self.seed < 0 or self.draw < 0 or self.batch_size < 1:
            raise SelectionError(
                f"seed={self.seed}, draw={self.draw}, batch_size={self.batch_size}: use a seed and a draw of 0 or more "
                f"and a batch size of 1 or more"
            )
        # Checked once, here: a Split refuses what is no image and no label.
        Split(self.images, self.labels)

    @property
    def split(self) -> Split:
        """Images and labels as one value."""
        return Split(self.images, self.labels)
