"""Auxiliary heads: small classifiers on top of blocks."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from training.blocks import Block
from training.errors import BlockError, SettingsError


class Headed(nn.Module):
    """A block with a head on top: values [n, *reads] to logits [n, classes]."""

    def __init__(self, block: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.head = head

    def forward(self, values: Tensor) -> Tensor:
        """The logits."""
        logits: Tensor = self.head(self.block(values))
        return logits


def make_head(block: Block, classes: int, *, seed: int) -> nn.Sequential:
    """The published auxiliary head for what a block makes, [n, C, H, W] -> logits [n, classes].

    An average pool to a quarter of each side, a 1x1 convolution to C feature maps with BatchNorm and ReLU, an average
    pool to 2x2 (or what there is), C hidden units with ReLU, the output; its first weights are drawn from `seed`, and
    torch's global generator is left as it was.
    Raises BlockError where the block makes no feature maps, SettingsError for fewer than two classes.
    Source: Belilovsky, Eickenberg, Oyallon, "Decoupled Greedy Learning of CNNs", ICML 2020, as used by ElAraby, Wolf,
    Carvalho (2023).
    """
    if classes < 2 or seed < 0:
        raise SettingsError(f"classes={classes}, seed={seed}: needed are 2 or more classes and a seed of 0 or more")
    if len(block.makes) != 3:
        raise BlockError(
            f"block {block.name!r} makes values of shape {block.makes}, and a head needs feature maps [C, H, W]: cut "
            f"before a convolution"
        )
    channels, *sides = block.makes
    quarter = [-(-side // 4) for side in sides]
    last = [min(2, side) for side in quarter]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return nn.Sequential(
            OrderedDict(
                quarter=nn.AdaptiveAvgPool2d((quarter[0], quarter[1])),
                conv=nn.Conv2d(channels, channels, 1, bias=False),
                norm=nn.BatchNorm2d(channels),
                relu1=nn.ReLU(),
                pool=nn.AdaptiveAvgPool2d((last[0], last[1])),
                flatten=nn.Flatten(),
                fc=nn.Linear(channels * last[0] * last[1], channels),
                relu2=nn.ReLU(),
                output=nn.Linear(channels, classes),
            )
        )
