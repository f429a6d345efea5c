"""Masks as pictures."""

import numpy as np
from torch import nn

from flows import figures, tracking
from flows.tracking import Run
from training import Masks


def log_mask_pictures(run: Run, network: nn.Module, masks: Masks, step: int = 0) -> None:
    """Log one picture per layer: kernels for a convolution in one or two dimensions, squares for a linear layer."""
    modules = dict(network.named_modules())
    for layer, mask in masks.items():
        module = modules[layer]
        if isinstance(module, nn.Conv1d | nn.Conv2d):
            weights = module.weight.detach().numpy().astype(np.float32)
            # A kernel in one dimension is one of height 1.
            picture = figures.kernel_picture(mask, weights[:, :, None] if weights.ndim == 3 else weights)
        else:
            picture = figures.mask_picture(mask)
        tracking.log_picture(run, picture, f"mask {layer}", step)
