"""BatchNorm statistics measured anew, because removal changes what every later layer receives."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from tracing import NORMS
from training.data import ImageBatches, Images, image_batches
from training.devices import find_device
from training.errors import FitSettingsError
from training.inference import check_finite_weights, check_forward, evaluating, weight_type

BATCH_NORMS = (*NORMS, nn.BatchNorm3d)


def recalibrate(model: nn.Module, images: Images, *, batch_size: int = 512, device: str = "cpu") -> nn.Module:
    """A copy of the model whose BatchNorm running statistics are the mean of those of the batches of images.

    One pass over the images in their order; only the BatchNorms are in training mode, so dropout draws nothing. A
    removed unit keeps a running mean of exactly 0. Without BatchNorm the copy equals the model.

    Args:
        model: left as it was.
        images: [n, C, H, W], or a DataLoader or any iterable of batches, with or without labels; each counts alike.
        batch_size: images per batch, of a tensor.
        device: where the passes run.

    Returns:
        The copy, on the CPU and in evaluation mode.

    Raises:
        DataError: data that hold no images.
        FitSettingsError: fewer than two images in all or in a batch, or a batch size below 2.
        DeviceError: no such device.
        ModelError: the images do not fit, or a weight is not finite.

    Source: Li, Wu, Su, Wang, "EagleEye: Fast Sub-net Evaluation for Efficient Neural Network Pruning", ECCV 2020.
    """
    batches = image_batches(images)
    first = batches.first(2)
    if batch_size < 2 or len(first) < 2:
        raise FitSettingsError(
            f"batch_size={batch_size} and {len(first)} images: BatchNorm has no variance over one image; "
            f"use 2 or more of both"
        )
    place = find_device(device)
    check_finite_weights(model)
    check_forward(model, first[:1])
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
        for batch in _batches(batches, batch_size):
            copied(batch.to(place, kind))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return copied.to("cpu")


def _batches(batches: ImageBatches, batch_size: int) -> Iterator[Tensor]:
    """A tensor in batches of nearly equal size, because each counts alike in the mean; others as they come."""
    if isinstance(batches.source, Tensor):
        yield from torch.tensor_split(batches.source, max(1, -(-len(batches.source) // batch_size)))
        return
    for batch in batches:
        if len(batch) < 2:
            raise FitSettingsError("a batch of 1 image: BatchNorm has no variance over it; drop it (drop_last=True)")
        yield batch
