"""Images mirrored and shifted at random, whole batches at a time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.errors import SettingsError

SHIFT = 4  # pixels
SMALLEST = 2  # pixels a side: of one pixel nothing can be mirrored, and nearly every shift leaves nothing


def draw_moves(images: int, generator: torch.Generator) -> Tensor:
    """For each image whether it is mirrored (1 or 0) and its shifts down and right in -4 .. 4, int64 [images, 3].

    All are drawn alike likely, on the generator's device.
    """
    mirrored = torch.randint(0, 2, (images, 1), generator=generator, device=generator.device)
    shifts = torch.randint(-SHIFT, SHIFT + 1, (images, 2), generator=generator, device=generator.device)
    return torch.cat([mirrored, shifts], 1)


def flip_crop(images: Tensor, moves: Tensor) -> Tensor:
    """The images [n, C, H, W], each mirrored left to right where its move [n, 3] says so, and then shifted.

    made[i, c, y, x] = seen[i, c, y - down_i, x - right_i], with seen the image or its mirror image, and 0 where that
    lies outside. Images and moves lie on one device. Raises as `check_augmentable`.
    """
    check_augmentable(images)
    count, channels, height, width = images.shape
    mirrored, down, right = moves.T[:, :, None]
    rows = torch.arange(height, device=images.device) - down
    columns = torch.arange(width, device=images.device) - right
    columns = torch.where(mirrored == 1, width - 1 - columns, columns)
    # A rim of zeros, so that one gather reads pixels inside and outside alike; a mirror image's lies as far out.
    padded = functional.pad(images, (SHIFT, SHIFT, SHIFT, SHIFT)).flatten(2)
    places = (rows + SHIFT)[:, :, None] * (width + 2 * SHIFT) + (columns + SHIFT)[:, None, :]
    places = places.reshape(count, 1, height * width).expand(count, channels, height * width)
    return padded.gather(2, places).reshape(images.shape)


def check_augmentable(images: Tensor) -> None:
    """Raise SettingsError where the images are not [n, C, H, W], or have a side of less than 2 pixels."""
    if images.ndim != 4 or min(images.shape[2:]) < SMALLEST:
        raise SettingsError(
            f"augment=flip_crop cannot mirror and shift images of shape {list(images.shape[1:])}: give images "
            f"[C, H, W] of {SMALLEST} or more pixels a side, or use augment=none"
        )
