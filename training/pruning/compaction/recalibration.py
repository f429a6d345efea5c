"""BatchNorm statistics measured anew, because removal changes what every later layer receives."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from training.devices import find_device
from training.errors import FitSettingsError
from training.inference import check_finite_weights, check_forward, evaluating, weight_type

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def recalibrate(model: nn.Module, images: Tensor, *, batch_size: int = 512, device: str = "cpu") -> nn.Module:
    """A copy of the model whose BatchNorm running statistics are the mean of those of the batches of images.

    One pass over the images in their order; only the BatchNorms are in training mode, so dropout draws nothing. A
    removed unit keeps a running mean of exactly 0. Without BatchNorm the copy equals the model.

    Args:
        model: left as it was.
        images: [n, C, H, W].
        batch_size: images per batch.
        device: where the passes run.

    Returns:
        The copy, on the CPU and in evaluation mode.

    Raises:
        FitSettingsError: fewer than two images, or a batch size below 2.
        DeviceError: no such device.
        ModelError: the images do not fit, or a weight is not finite.

    Source: Li, Wu, Su, Wang, "EagleEye: Fast Sub-net Evaluation for Efficient Neural Network Pruning", ECCV 2020.
    """
    if batch_size < 2 or len(images) < 2:
        raise FitSettingsError(
            f"batch_size={batch_size} and {len(images)} images: BatchNorm has no variance over one image; "
            f"use 2 or more of both"
        )
    place = find_device(device)
    check_finite_weights(model)
    check_forward(model, images[:1])
    copied = copy.deepcopy(model).to(place).eval()
    norms = [part for part in copied.modules() if isinstance(part, BATCH_NORMS) and part.track_running_stats]
    if not norms:
        return copied.to("cpu")
    momenta = [norm.momentum for norm in norms]
    kind = weight_type(copied)
    with evaluating(copied), torch.no_grad():
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # torch's word for the mean over all batches
            norm.train()
        for batch in _batches(images, batch_size):
            copied(batch.to(place, kind))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return copied.to("cpu")


def _batches(images: Tensor, batch_size: int) -> tuple[Tensor, ...]:
    """Batches of nearly equal size, because each counts alike in the mean."""
    return torch.tensor_split(images, max(1, -(-len(images) // batch_size)))
