"""Images mirrored and shifted at random, whole batches at a time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from training.errors import FitSettingsError

SHIFT = 4  # pixels
SMALLEST = 2  # pixels a side: of one pixel nothing can be mirrored, and nearly every shift leaves nothing


def draw_moves(images: int, generator: torch.Generator) -> Tensor:
    """For each image whether it is mirrored and how far it is shifted, all drawn alike likely.

    Args:
        images: how many.
        generator: draws on its own device.

    Returns:
        int64 [images, 3]: mirrored (1 or 0), pixels down and pixels right in -4 .. 4.
    """
    mirrored = torch.randint(0, 2, (images, 1), generator=generator, device=generator.device)
    shifts = torch.randint(-SHIFT, SHIFT + 1, (images, 2), generator=generator, device=generator.device)
    return torch.cat([mirrored, shifts], 1)


def flip_crop(images: Tensor, moves: Tensor) -> Tensor:
    """The images, each mirrored left to right where its move says so, and then shifted.

        made[i, c, y, x] = seen[i, c, y - down_i, x - right_i]

    with seen the image or its mirror image, and 0 where that lies outside.

    Args:
        images: [n, C, H, W].
        moves: [n, 3], from `draw_moves`, on the same device.

    Raises:
        FitSettingsError: the images cannot be moved, see `check_augmentable`.
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
    """Raise FitSettingsError where images are not [n, C, H, W], or have a side of less than 2 pixels."""
    if images.ndim != 4 or min(images.shape[2:]) < SMALLEST:
        raise FitSettingsError(
            f"augment=flip_crop cannot mirror and shift images of shape {list(images.shape[1:])}: give images "
            f"[C, H, W] of {SMALLEST} or more pixels a side, or use augment=none"
        )
