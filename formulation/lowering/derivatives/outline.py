"""Outline of a model: its scored layers, found without the matrices that make a program large."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from formulation.errors import InvalidModel, UnsupportedLayer
from formulation.lowering.derivatives.network_reading import LOWERED_ENTRIES
from formulation.lowering.derivatives.whole_network import differentiable
from formulation.lowering.walk import lower
from formulation.network import Network
from naming import GateName


@dataclass(frozen=True)
class Outline:
    """The units of every scored layer by its name, and the other layers, each with the reason.

    `tied`: the layers that make or carry the same units as a scored one, by its name.
    `first_order`: the network is not lowered, and its derivatives are torch's.
    """

    units: Mapping[str, int]
    unscored: Mapping[str, str]
    tied: Mapping[str, tuple[str, ...]]
    first_order: bool = False


def outline(model: nn.Module, example_input: Any, gate: GateName = "linear") -> Outline:
    """`Network.units` and `Network.unscored` of the network that a score call reads, for a network of any size.

    Neither depends on the weights: those of convolutions are taken for 0, so that no matrix of one has an entry.

    Args:
        model: left as it was.
        example_input: [n, ...], gives the shapes.
        gate: `linear` takes networks that cannot be lowered, any other none.

    Raises:
        InvalidModel, UnsupportedLayer: as `lower`, but for weights of convolutions that are NaN or infinite.
    """
    hollow = copy.deepcopy(model)
    with torch.no_grad():
        for layer in hollow.modules():
            if isinstance(layer, nn.Conv1d | nn.Conv2d):
                layer.weight.zero_()
    network = _read(hollow, example_input) if gate == "linear" else lower(hollow, example_input)
    tied = {each.name: each.others for each in network.layers if each.others}
    return Outline(network.units, network.unscored, tied, network.differentiable is not None)


def _read(hollow: nn.Module, example_input: Any) -> Network:
    """As `read_network` does, without trying what is differentiated on images."""
    try:
        return lower(hollow, example_input, most_entries=LOWERED_ENTRIES)
    except (UnsupportedLayer, InvalidModel):
        try:
            return differentiable(hollow, example_input, compared=False)
        except (UnsupportedLayer, InvalidModel):
            return lower(hollow, example_input)
