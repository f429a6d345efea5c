"""Which layers of a model are scored, found without the matrices that make a program large."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from formulation.lowering.graph import lower


@dataclass(frozen=True)
class Outline:
    """The units of every scored layer by its name, and the other layers, each with the reason."""

    units: Mapping[str, int]
    unscored: Mapping[str, str]


def outline(model: nn.Module, example_input: Any) -> Outline:
    """`Network.units` and `Network.unscored` of `lower(model, example_input)`, for a network of any size.

    Neither depends on the weights: those of convolutions are taken for 0, so that no matrix of one has an entry.
    Raises what `lower` does, but for weights of convolutions that are NaN or infinite.
    """
    hollow = copy.deepcopy(model)
    with torch.no_grad():
        for layer in hollow.modules():
            if isinstance(layer, nn.Conv1d | nn.Conv2d):
                layer.weight.zero_()
    network = lower(hollow, example_input)
    return Outline(network.units, network.unscored)
