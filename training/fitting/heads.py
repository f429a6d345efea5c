"""Auxiliary heads: small classifiers on top of blocks."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from tracing import TracedModule, followed_by
from training.errors import BlockError, FitSettingsError
from training.fitting.blocks import Block

HIDDEN = ("conv", "fc")  # of a head's layers those with a ReLU behind
HEAD = "auxiliary_head"  # under this name a block's head is a child of the block with its head


def headed(block: Block, head: nn.Module) -> TracedModule:
    """A block with a head on top: values [n, *reads] to logits [n, classes], in evaluation mode.

    The block's layers are the network's own under their qualified names, those of the head are `auxiliary_head.*`;
    so whatever is said of the block's layers is said of the network's.

    Args:
        block: one of `split`.
        head: reads what the block makes, as one of `make_head` does.

    Raises:
        BlockError: the network has a child of the head's name.
    """
    if hasattr(block.module, HEAD):
        raise BlockError(
            f"the network has a child {HEAD!r}, which is the name of block {block.name!r}'s head: rename it"
        )
    whole = followed_by(block.module, head, child=HEAD, name=f"Headed{type(block.module).__name__}")
    return whole.eval()


def head_layers() -> tuple[str, ...]:
    """The names of a head's hidden layers in the block with its head: those whose units a program may score."""
    return tuple(f"{HEAD}.{name}" for name in HIDDEN)


def is_of_head(layer: str) -> bool:
    """Whether a layer of a block with its head is the head's."""
    return layer.startswith(f"{HEAD}.")


def make_head(block: Block, classes: int, *, seed: int) -> nn.Sequential:
    """The published auxiliary head for what a block makes, [n, C, H, W] -> logits [n, classes].

    An average pool to a quarter of each side, a 1x1 convolution to C feature maps with BatchNorm and ReLU, an average
    pool to 2x2 (or what there is), C hidden units with ReLU, the output; torch's global generator is left as it was.

    Args:
        block: makes feature maps [C, H, W].
        classes: outputs.
        seed: of its first weights.

    Raises:
        BlockError: the block makes no feature maps.
        FitSettingsError: fewer than two classes, or a seed below 0.

    Source: Belilovsky, Eickenberg, Oyallon, "Decoupled Greedy Learning of CNNs", ICML 2020, as used by ElAraby, Wolf,
    Carvalho (2023).
    """
    if classes < 2 or seed < 0:
        raise FitSettingsError(f"classes={classes}, seed={seed}: needed are 2 or more classes and a seed of 0 or more")
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
