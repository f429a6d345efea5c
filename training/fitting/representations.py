"""Representations: the images as every block of a network reads them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from training.devices import find_device
from training.errors import FitSettingsError, ModelError
from training.fitting.blocks import Block
from training.inference import check_finite_weights, evaluating, on_device, weight_type


def represent(
    blocks: Sequence[Block], images: Tensor, *, batch_size: int = 512, device: str = "cpu"
) -> dict[str, Tensor]:
    """What every block of a network reads for these images, by the block's name.

    In evaluation mode and without gradients; every image passes every block once, the last one not at all, and all
    modes are as before afterwards.

    Args:
        blocks: all of `split`, in order.
        images: [n, C, H, W].
        batch_size: images per pass.
        device: where the passes run.

    Returns:
        By block, [n, *reads] on the CPU, in the type of the network's weights.

    Raises:
        DeviceError, FitSettingsError: no such device, a batch size below 1.
        ModelError: the images are not those that the first block reads, or a weight or a value is not finite; names the
            block that would read it.
    """
    place = find_device(device)
    if batch_size < 1:
        raise FitSettingsError(f"batch_size={batch_size} is out of range: use 1 or more")
    if not blocks or not len(images) or tuple(images.shape[1:]) != blocks[0].reads:
        found = f"images of shape {list(images.shape)}"
        wanted = f"{blocks[0].name!r} reads images of shape {list(blocks[0].reads)}" if blocks else "there is none"
        raise ModelError(f"the first block cannot take {found}, for {wanted}: give a network's blocks and its images")
    for block in blocks[:-1]:
        check_finite_weights(block.module)
    modules = nn.ModuleList([on_device(block.module, place) for block in blocks[:-1]])
    kind = weight_type(nn.ModuleList([block.module for block in blocks]))
    read = {block.name: torch.empty(len(images), *block.reads, dtype=kind) for block in blocks}
    with evaluating(modules), torch.no_grad():
        for first in range(0, len(images), batch_size):
            values = images[first : first + batch_size].to(place, kind)
            for block, module in zip(blocks, [*modules, None], strict=True):
                read[block.name][first : first + batch_size] = values
                values = values if module is None else module(values)
    for name, values in read.items():
        _refuse_lost(name, values)
    return read


def _refuse_lost(block: str, values: Tensor) -> None:
    finite = torch.isfinite(values).flatten(1).all(1)
    if not bool(finite.all()):
        raise ModelError(
            f"what block {block!r} reads of image {int(finite.logical_not().nonzero()[0])} is NaN or infinite: "
            f"train the model again or give a sound checkpoint"
        )
