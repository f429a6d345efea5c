"""Windows of convolutions and pools: the inputs of each output, -1 where they reach into padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from formulation.errors import InvalidImages
from formulation.network import Index


def sliding(
    size: int, kernel: int, stride: int, padding: tuple[int, int], dilation: int = 1, *, ceil_mode: bool = False
) -> Index:
    """Windows [outputs, kernel] along one axis, as torch places them.

    With `ceil_mode` the last window may reach beyond the padding, but must start in the input or the padding before it.
    """
    free = size + sum(padding) - dilation * (kernel - 1) - 1
    outputs = (-(-free // stride) if ceil_mode else free // stride) + 1
    if ceil_mode and (outputs - 1) * stride >= size + padding[0]:
        outputs -= 1
    starts = np.arange(max(outputs, 0)) * stride - padding[0]
    positions = starts[:, None] + dilation * np.arange(kernel)
    return np.where((positions >= 0) & (positions < size), positions, -1)


def adaptive(size: int, outputs: int) -> Index:
    """Windows [outputs, widest] of an adaptive pool along one axis: from floor(i n / m) up to ceil((i + 1) n / m)."""
    starts = np.arange(outputs) * size // outputs
    ends = -(-(np.arange(1, outputs + 1) * size) // outputs)
    positions = starts[:, None] + np.arange(int((ends - starts).max(initial=1)))
    return np.where(positions < ends[:, None], positions, -1)


def combined(axes: Sequence[Index], sizes: Sequence[int]) -> Index:
    """Windows over all axes as one, [outputs, window], both row by row."""
    made = axes[0]
    for axis, size in zip(axes[1:], sizes[1:], strict=True):
        far, near = made[:, None, :, None], axis[None, :, None, :]
        both = np.where((far < 0) | (near < 0), -1, far * size + near)
        made = both.reshape(len(made) * len(axis), -1)
    return made


def per_channel(windows: Index, channels: int, pixels: int) -> Index:
    """The same windows in each channel of `pixels` positions."""
    first = np.arange(channels)[:, None, None] * pixels
    return np.where(windows < 0, -1, windows + first).reshape(channels * len(windows), -1)


def require_outputs(axes: Sequence[Index], shape: tuple[int, ...], name: str) -> None:
    """Raises InvalidImages where a kernel does not fit even once."""
    if not all(len(axis) for axis in axes):
        raise InvalidImages(
            f"'{name}' does not take a value of shape {shape}: its kernel is larger; check the image size"
        )


def each_axis(value: Any, axes: int) -> tuple[int, ...]:
    """One number per axis, from a number or a sequence, as torch reads its arguments."""
    if isinstance(value, int):
        return (value,) * axes
    made = tuple(int(v) for v in value)
    return made * axes if len(made) == 1 else made
