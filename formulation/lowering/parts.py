"""What the rules are made of: matrices of convolutions and pools, ReLUs, and changes of shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array, eye_array, kron
from torch import Tensor, nn

from formulation.errors import UnsupportedLayer
from formulation.lowering.values import Made, Value
from formulation.network import Affine, Matrix, Relu


def relu(source: Value) -> Made:
    layer, unit = (source.units.layer, source.units.index) if source.units else ("", np.zeros(0, dtype=np.int64))
    return Made(Relu(layer, unit), source.shape, source.units)


def scaled(source: Value, scale: NDArray[np.float64], shift: NDArray[np.float64]) -> Made:
    return Made(Affine(csr_array(diags_array(scale)), shift), source.shape, source.units)


def flattened(source: Value, start: int, end: int, name: str) -> Value:
    dims = len(source.shape) + 1
    start, end = start % dims, end % dims
    if start == 0:
        raise UnsupportedLayer(f"'{name}' flattens the batch; start at dimension 1")
    shape = (1, *source.shape)
    merged = (*shape[:start], int(np.prod(shape[start : end + 1])), *shape[end + 1 :])
    return replace(source, shape=merged[1:])


def viewed(source: Value, sizes: tuple[Any, ...], name: str) -> Value:
    size = int(np.prod(source.shape))
    tail = [int(s) for s in sizes[1:]]
    known = int(np.prod([s for s in tail if s != -1]))
    shape = tuple(size // known if s == -1 else s for s in tail)
    if sizes[0] not in (1, -1) or (sizes[0] == -1 and -1 in tail) or int(np.prod(shape)) != size:
        raise UnsupportedLayer(
            f"'{name}' reshapes {source.shape} to {sizes}; keep the batch first, as in x.view(x.size(0), -1)"
        )
    return replace(source, shape=shape)


def pooled(source: Value, pool: Callable[[Tensor], Tensor], name: str) -> Made:
    """An average pool acts on each channel alone: its matrix is read off from the pooled unit images of one channel."""
    if len(source.shape) != 3:
        raise UnsupportedLayer(f"'{name}' pools a value of shape {source.shape}; it must be channels, height, width")
    channels, height, width = source.shape
    basis = torch.eye(height * width, dtype=torch.float64).reshape(-1, 1, height, width)
    pooled = pool(basis)
    one = csr_array(pooled.reshape(height * width, -1).numpy().T)
    matrix = csr_array(kron(eye_array(channels), one, format="csr"))
    shape = (channels, *(int(s) for s in pooled.shape[2:]))
    units = source.units
    if units is not None:
        per_channel = units.index.reshape(channels, -1)[:, 0]
        units = replace(units, index=np.repeat(per_channel, int(np.prod(shape[1:]))))
    return Made(Affine(matrix, np.zeros(matrix.shape[0])), shape, units)


def convolution(layer: nn.Conv2d, shape: tuple[int, ...], name: str) -> tuple[Matrix, tuple[int, int, int]]:
    """The matrix of a convolution: where each weight meets each input, read off from the unfolded input indices."""
    if len(shape) != 3 or shape[0] != layer.in_channels:
        raise UnsupportedLayer(
            f"'{name}' (Conv2d) reads a value of shape {shape}; it takes {layer.in_channels} channels"
        )
    size = int(np.prod(shape))
    index = torch.arange(1, size + 1, dtype=torch.float64).reshape(1, *shape)  # 0 marks padding
    padded = F.pad(index, _padding(layer))
    windows = F.unfold(padded, layer.kernel_size, dilation=layer.dilation, stride=layer.stride)[0].long().numpy()
    reach = [d * (k - 1) + 1 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    height, width = ((int(p) - r) // s + 1 for p, r, s in zip(padded.shape[2:], reach, layer.stride, strict=True))
    pixels, out = windows.shape[1], layer.out_channels
    taps = windows.shape[0] // layer.groups
    weight = layer.weight.detach().numpy().reshape(out, taps)
    group = np.arange(out) // (out // layer.groups)
    columns = windows.reshape(layer.groups, taps, pixels)[group].transpose(0, 2, 1)  # [out, pixels, taps]
    data = np.broadcast_to(weight[:, None, :], columns.shape)
    rows = np.broadcast_to(np.arange(out * pixels).reshape(out, pixels, 1), columns.shape)
    inside = (columns > 0) & (data != 0)
    matrix = csr_array((data[inside], (rows[inside], columns[inside] - 1)), shape=(out * pixels, size))
    return matrix, (out, height, width)


def _padding(layer: nn.Conv2d) -> list[int]:
    """(left, right, top, bottom) as torch pads: 'same' puts the odd pixel at the end."""
    if layer.padding == "valid":
        return [0, 0, 0, 0]
    if layer.padding == "same":
        total = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2]
    top, left = (int(p) for p in layer.padding)
    return [left, left, top, top]


def per_channel(part: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.repeat(part, int(np.prod(shape[1:])))


def bias(bias: Tensor | None, size: int) -> NDArray[np.float64]:
    return np.zeros(size) if bias is None else bias.detach().numpy().copy()
