"""Masks as pictures."""

import numpy as np
from numpy.typing import NDArray
from torch import nn

from flows.cache import StageResult
from flows.reporting import figures
from training import Masks


def log_mask_pictures(result: StageResult, network: nn.Module, masks: Masks, step: int = 0) -> None:
    """Log one picture per layer."""
    for layer, mask in masks.items():
        result.add_picture(mask_picture_of(network, layer, mask), f"mask {layer}", step)


def mask_picture_of(network: nn.Module, layer: str, mask: NDArray[np.bool_]) -> figures.Pixels:
    """A layer's mask: kernels for a convolution in one or two dimensions, squares for a linear layer."""
    module = network.get_submodule(layer)
    if not isinstance(module, nn.Conv1d | nn.Conv2d) or len(mask) != len(module.weight):
        return figures.mask_picture(mask)
    weights = module.weight.detach().numpy().astype(np.float32)
    # A kernel in one dimension is one of height 1.
    return figures.kernel_picture(mask, weights[:, :, None] if weights.ndim == 3 else weights)
