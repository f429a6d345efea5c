"""Dense layers and convolutions as matrices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array, eye_array, kron
from torch import Tensor

from formulation.errors import UnsupportedLayer
from formulation.lowering.maps.windows import combined, each_axis, require_outputs, sliding
from formulation.lowering.values import Made, Units, Value
from formulation.network import Affine, Array, Index, Matrix


@dataclass(frozen=True, eq=False)
class Kernel:
    """The weights of a convolution, [outputs, inputs / groups, *kernel], and how it slides."""

    weight: Array
    bias: Array
    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: int = 1


def dense(source: Value, weight: Tensor, offset: Tensor | None, name: str, refusal: str = "") -> Made:
    """W h + b on a vector, or on each of several: tokens share the units."""
    outputs, inputs = weight.shape
    if source.shape[-1] != inputs:
        raise UnsupportedLayer(
            f"'{name}' (Linear) takes {inputs} inputs and reads a value of shape {source.shape}; check the image size"
        )
    tokens = int(np.prod(source.shape[:-1]))
    matrix: Matrix = weight.detach().numpy().copy()
    if tokens > 1:
        matrix = csr_array(kron(eye_array(tokens), csr_array(matrix), format="csr"))
    op = Affine(matrix, np.tile(bias(offset, outputs), tokens))
    units = Units(name, 1, np.tile(np.arange(outputs), tokens), refusal)
    return Made(op, (*source.shape[:-1], outputs), layer=units)


def convolved(source: Value, kernel: Kernel, name: str, refusal: str = "") -> Made:
    """A convolution over one or two axes with zeros around the image."""
    outputs, taken, *sides = kernel.weight.shape
    channels, shape = taken * kernel.groups, source.shape
    if len(shape) != len(sides) + 1 or shape[0] != channels:
        raise UnsupportedLayer(
            f"'{name}' (Conv{len(sides)}d) reads a value of shape {shape}; it takes {channels} channels"
        )
    axes = [sliding(*each) for each in zip(shape[1:], sides, *_slides(kernel, sides), strict=True)]
    require_outputs(axes, shape, name)
    windows = combined(axes, shape[1:])
    matrix = _matrix(kernel, windows, int(np.prod(shape[1:])))
    pixels = len(windows)
    units = Units(name, int(np.prod(sides)), np.repeat(np.arange(outputs), pixels), refusal)
    made = (outputs, *(len(axis) for axis in axes))
    return Made(Affine(matrix, np.repeat(kernel.bias, pixels)), made, layer=units)


def convolved_around(source: Value, kernel: Kernel, mode: str, name: str) -> Made:
    """A convolution with the image's own values around it: reflected, replicated or circular."""
    sides = list(kernel.weight.shape[2:])
    around = [each for pair in reversed(_slides(kernel, sides)[1]) for each in pair]
    inner, size = tuple(source.shape), int(np.prod(source.shape))
    numbers = torch.arange(size, dtype=torch.float64).reshape(1, *inner)
    padded = torch.nn.functional.pad(numbers, around, mode=mode)[0]
    columns = padded.reshape(-1).numpy().astype(np.int64)
    wide = Value(source.node, tuple(padded.shape), source.unit[columns], source.gated[columns])
    made = convolved(wide, replace(kernel, padding=0), name)
    assert isinstance(made.op, Affine)
    gathered = csr_array((np.ones(len(columns)), (np.arange(len(columns)), columns)), shape=(len(columns), size))
    return replace(made, op=Affine(csr_array(made.op.weight @ gathered), made.op.bias))


def transposed(source: Value, kernel: Kernel, sides: tuple[int, ...], name: str, refusal: str) -> Made:
    """The transpose of the convolution that makes a value of the source's shape of one with these sides.

    Args:
        source: what the layer reads.
        kernel: with weights [inputs, outputs / groups, *kernel], as torch has them.
        sides: of a channel that it makes.
        name: of the layer.
        refusal: why no score acts on its units.
    """
    outputs = kernel.weight.shape[1] * kernel.groups
    size = outputs * int(np.prod(sides))
    behind = Value(source.node, (outputs, *sides), np.full(size, -1), np.zeros(size, dtype=bool))
    backwards = convolved(behind, replace(kernel, bias=np.zeros(len(kernel.weight))), name)
    if backwards.shape != source.shape or not isinstance(backwards.op, Affine):
        raise UnsupportedLayer(
            f"'{name}' makes channels of {sides} pixels of a value of shape {source.shape}; check its output padding"
        )
    weight = csr_array(csr_array(backwards.op.weight).T)
    pixels = int(np.prod(sides))
    units = Units(name, int(np.prod(kernel.weight.shape[2:])), np.repeat(np.arange(outputs), pixels), refusal)
    return Made(Affine(weight, np.repeat(kernel.bias, pixels)), behind.shape, layer=units)


def _slides(kernel: Kernel, sides: list[int]) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...], tuple[int, ...]]:
    """Stride, padding (before, after) and dilation per axis; 'same' puts the odd pixel at the end, as torch does."""
    axes = len(sides)
    stride, dilation = each_axis(kernel.stride, axes), each_axis(kernel.dilation, axes)
    if kernel.padding == "valid":
        padding: tuple[tuple[int, int], ...] = ((0, 0),) * axes
    elif kernel.padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, sides, strict=True)]
        padding = tuple((t // 2, t - t // 2) for t in total)
    else:
        padding = tuple((p, p) for p in each_axis(kernel.padding, axes))
    return stride, padding, dilation


def _matrix(kernel: Kernel, windows: Index, size: int) -> csr_array:
    """Where each weight meets each input, row by row: output channels, then pixels."""
    outputs, taken = kernel.weight.shape[:2]
    pixels, taps = windows.shape
    if not kernel.weight.any():
        return csr_array((outputs * pixels, taken * kernel.groups * size))
    weight = kernel.weight.reshape(outputs, 1, taken, taps)
    first = np.arange(outputs) // (outputs // kernel.groups) * taken  # the channel where each output's group starts
    channel = first[:, None] + np.arange(taken)
    columns = channel[:, None, :, None] * size + windows[None, :, None, :]  # [outputs, pixels, taken, taps]
    inside = (windows >= 0)[None, :, None, :] & (weight != 0)
    data = np.broadcast_to(weight, columns.shape)[inside]
    ends = np.cumsum(inside.reshape(outputs * pixels, -1).sum(axis=1))
    shape = (outputs * pixels, taken * kernel.groups * size)
    narrow = np.int32 if max(*shape, len(data)) < 2**31 else np.int64
    return csr_array((data, columns[inside].astype(narrow), np.append(0, ends).astype(narrow)), shape=shape)


def bias(value: Tensor | None, size: int) -> Array:
    return np.zeros(size) if value is None else value.detach().numpy().copy()
