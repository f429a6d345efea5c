"""Products with the matrix of a convolution and with its transpose, in float64 and the order that suits its shape.

    y = W h,  h = W' a      W [outputs, channels / groups, kernel ...]

torch has one way in float64, which writes the pixels under each window beside each other, group by group and image by
image. Measured on one core it is the slower one for

    depthwise kernels on small maps        one entry of all kernels at a time
    kernels that step by 1 on large maps   one entry of the kernel at a time, a product with maps moved by it
    W' of small maps of several images     one product for all images
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv1d_input, conv2d_input, conv3d_input

INPUT_SLOPES: dict[Any, Callable[..., Tensor]] = {
    F.conv1d: conv1d_input,
    F.conv2d: conv2d_input,
    F.conv3d: conv3d_input,
}
# Pixels of a map: depthwise kernels up to the first, one product for all images up to the second, moved maps from the
# third on.
DEPTHWISE, TOGETHER, MOVED = 1024, 64, 2048
SEVERAL = 4  # images

Sizes: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Steps:
    """How a kernel goes over the pixels: torch's function for it, and for each axis its stride, padding, dilation."""

    function: Any
    stride: Sizes
    padding: Sizes
    dilation: Sizes
    groups: int

    @property
    def rest(self) -> tuple[Sizes, Sizes, Sizes, int]:
        """What torch's functions take behind weights, in their order."""
        return self.stride, self.padding, self.dilation, self.groups


def kernel_product(h: Tensor, weight: Tensor, steps: Steps) -> Tensor:
    """W h for maps h [n, channels, pixels ...].

    Args:
        h: maps.
        weight: W.
        steps: of its kernel.
    """
    if _is_depthwise(h.shape, weight, steps):
        return _depthwise(h, weight, steps)
    if _moves(h.shape, weight, steps):
        return _moved_products(h, weight.permute(2, 3, 0, 1), steps.padding)
    made: Tensor = steps.function(h, weight, None, *steps.rest)
    return made


def transposed_product(a: Tensor, shape: Sizes, weight: Tensor, steps: Steps) -> Tensor:
    """W' a for weights a [n, outputs, pixels ...] on what the convolution made.

    Args:
        a: weights.
        shape: of the maps that it read.
        weight: W.
        steps: of its kernel.
    """
    if _is_depthwise(shape, weight, steps):
        return _depthwise_back(a, shape, weight, steps)
    turned = tuple(kernel - 1 - pad for kernel, pad in zip(weight.shape[2:], steps.padding, strict=True))
    if _moves(shape, weight, steps) and min(turned) >= 0:
        return _moved_products(a, weight.flip(2, 3).permute(2, 3, 1, 0), turned)
    if _is_flat(weight, steps) and len(a) >= SEVERAL and shape[2] * shape[3] <= TOGETHER:
        return _back_together(a, shape, weight, steps)
    return INPUT_SLOPES[steps.function](shape, weight, a, *steps.rest)


def _is_flat(weight: Tensor, steps: Steps) -> bool:
    return steps.function is F.conv2d and steps.groups == 1 and weight[0, 0].numel() > 1


def _moves(shape: Sizes, weight: Tensor, steps: Steps) -> bool:
    return (
        _is_flat(weight, steps)
        and steps.stride == steps.dilation == (1, 1)
        and shape[2] * shape[3] >= MOVED
        and min(size + 2 * pad - kernel for size, pad, kernel in _axes(shape, steps.padding, weight)) >= 0
    )


def _is_depthwise(shape: Sizes, weight: Tensor, steps: Steps) -> bool:
    depthwise = steps.function is F.conv2d and steps.groups == len(weight) == shape[1]
    return depthwise and shape[2] * shape[3] <= DEPTHWISE


def _axes(shape: Sizes, padding: Sizes, weight: Tensor) -> Iterator[tuple[int, int, int]]:
    return zip(shape[2:], padding, weight.shape[2:], strict=True)


def _padded(h: Tensor, padding: Sizes) -> Tensor:
    below, aside = padding
    return F.pad(h, (aside, aside, below, below))


def _moved_products(h: Tensor, factors: Tensor, padding: Sizes) -> Tensor:
    """Sums over the entries of a kernel [rows, columns, outputs, channels] of products with maps moved by it.

    Rows of padded maps lie one behind the other, so that a step in the map is one along the whole; behind the end of
    each row of the outcome are a few pixels that belong to none.
    """
    rows, columns, outputs, _ = factors.shape
    padded = _padded(h, padding)
    height, width = padded.shape[2:]
    lines, span = padded.flatten(2), height * width - (rows - 1) * width - (columns - 1)
    made = h.new_empty(len(h), outputs, height * width)
    for line, found in zip(lines, made, strict=True):
        for row, column in product(range(rows), range(columns)):
            first = row * width + column
            moved = line[:, first : first + span]
            torch.addmm(found[:, :span], factors[row, column], moved, beta=min(first, 1), out=found[:, :span])
    inner = made.reshape(*made.shape[:2], height, width)[:, :, : height - rows + 1, : width - columns + 1]
    return inner.clone(memory_format=torch.contiguous_format)  # no view: whoever reads it may write over it


def _back_together(a: Tensor, shape: Sizes, weight: Tensor, steps: Steps) -> Tensor:
    every = weight.flatten(1).T @ a.transpose(0, 1).flatten(1)
    windows = every.reshape(len(every), len(a), -1).transpose(0, 1)
    return F.fold(windows, shape[2:], weight.shape[2:], steps.dilation, steps.padding, steps.stride)


def _depthwise(h: Tensor, weight: Tensor, steps: Steps) -> Tensor:
    padded = _padded(h, steps.padding)
    found: Tensor | None = None
    for factor, window in _entries(padded.shape, weight, steps):
        found = padded[window] * factor if found is None else found.addcmul_(padded[window], factor)
    assert found is not None, "a kernel has entries"
    return found


def _depthwise_back(a: Tensor, shape: Sizes, weight: Tensor, steps: Steps) -> Tensor:
    below, aside = steps.padding
    height, width = shape[2:]
    padded = a.new_zeros(*shape[:2], height + 2 * below, width + 2 * aside)
    for factor, window in _entries(padded.shape, weight, steps):
        padded[window].addcmul_(a, factor)
    return padded[:, :, below : below + height, aside : aside + width]


def _entries(shape: Sizes, weight: Tensor, steps: Steps) -> Iterator[tuple[Tensor, tuple[slice, ...]]]:
    """Each entry of the kernels [channels, 1, 1], and the pixels of padded maps that it is multiplied by."""
    sizes = tuple(zip(shape[2:], weight.shape[2:], steps.stride, steps.dilation, strict=True))
    spans = [(size - apart * (kernel - 1) - 1) // stride * stride + 1 for size, kernel, stride, apart in sizes]
    for row, column in product(*(range(kernel) for kernel in weight.shape[2:])):
        starts = row * steps.dilation[0], column * steps.dilation[1]
        window = [
            slice(start, start + span, stride) for start, span, stride in zip(starts, spans, steps.stride, strict=True)
        ]
        yield weight[:, 0, row, column].reshape(-1, 1, 1), (slice(None), slice(None), *window)
