"""Normalisation of a network's images inside the network, which then takes pixels in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.errors import ModelError


class NormalisedImages(nn.Module):
    """A network behind (x - mean) / std by channel; its layers bear their names behind `network.`."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.network = network
        # No weights: whoever builds the network anew says them again.
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", std.reshape(1, -1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network((x - self.mean) / self.std)
        return logits


def normalise_images(
    network: nn.Module, mean: Sequence[float], std: Sequence[float], channels: int
) -> NormalisedImages:
    """The network for images that are not normalised yet.

    Args:
        network: takes normalised images; it becomes a part of the result.
        mean, std: of its training images, one number for each channel or one for all; std above 0.
        channels: of the images.

    Raises:
        ModelError: another number of them, a mean that is not finite, or a std that is not above 0.
    """
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, channels):
            raise ModelError(f"{name} has {len(values)} numbers and the images {channels} channels: give one for each")
    if not all(map(math.isfinite, mean)):
        raise ModelError(f"mean={', '.join(f'{value:g}' for value in mean)}: give finite numbers")
    if not all(0.0 < value < float("inf") for value in std):
        raise ModelError(f"std={', '.join(f'{value:g}' for value in std)}: give numbers above 0")
    wide = [torch.tensor(list(values)) * torch.ones(channels) for values in (mean, std)]
    return NormalisedImages(network, *wide).train(network.training)
