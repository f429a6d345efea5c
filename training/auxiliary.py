"""Auxiliary heads: small classifiers on top of blocks."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import fx, nn

from training.blocks import Block
from training.errors import BlockError, SettingsError

HIDDEN = ("conv", "fc")  # of a head's layers those with a ReLU behind
HEAD = "auxiliary_head"  # under this name a block's head is a child of the block with its head


def headed(block: Block, head: nn.Module) -> fx.GraphModule:
    """A block with a head on top: values [n, *reads] to logits [n, classes], in evaluation mode.

    The block's layers are the network's own under their qualified names, those of the head are `auxiliary_head.*`;
    so whatever is said of the block's layers is said of the network's.
    Raises BlockError where the network has a child of the head's name.
    """
    graph = fx.Graph()
    made = graph.graph_copy(block.module.graph, {})
    assert isinstance(made, fx.Node), "a block makes one tensor"
    whole = fx.GraphModule(block.module, graph, class_name=f"Headed{type(block.module).__name__}")
    if hasattr(whole, HEAD):
        raise BlockError(
            f"the network has a child {HEAD!r}, which is the name of block {block.name!r}'s head: rename it"
        )
    whole.add_submodule(HEAD, head)
    graph.output(graph.call_module(HEAD, (made,)))
    whole.recompile()
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
