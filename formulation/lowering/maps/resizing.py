"""Resized pictures as matrices: interpolation along one axis after another, found by resizing one line at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np
import torch
from scipy.sparse import csr_array, eye_array, kron
from torch import Tensor

from formulation.errors import UnsupportedLayer
from formulation.lowering.values import Made, Value
from formulation.network import Affine, Array

LINES = 16  # resized at once
EXACT = 1e-12  # of values in [0, 1], which rounding moves


def resized(resize: Callable[[Tensor], Tensor], where: str) -> Callable[[Value], Made]:
    """The rule of a call that resizes every channel alone, by weights that are a product over its axes.

        out[p, q] = sum over k, l of  A[p, k] B[q, l] in[k, l]

    Interpolations keep constants, so A is what becomes of pictures that are constant along the other axis.

    Args:
        resize: takes images [n, channels, ...], however many, in float64.
        where: the call in a message.

    Raises:
        UnsupportedLayer: when placed, where the call is no such interpolation.
    """

    def step(source: Value) -> Made:
        channels, *sides = source.shape
        if len(sides) not in (1, 2):
            raise UnsupportedLayer(f"'{where}' resizes a value of shape {source.shape}; it must be channels and pixels")
        axes = [_along(resize, sides, axis) for axis in range(len(sides))]
        one = csr_array(reduce(lambda far, near: kron(far, near, format="csr"), axes))
        _require_same(resize, one, sides, where)
        shape = (channels, *(axis.shape[0] for axis in axes))
        weight = csr_array(kron(eye_array(channels), one, format="csr"))
        unit = source.unit.reshape(channels, -1)
        first = np.arange(channels) * unit.shape[1]
        origin = np.where((unit == unit[:, :1]).all(axis=1), first, -1)
        return Made(Affine(weight, np.zeros(weight.shape[0])), shape, np.repeat(origin, one.shape[0]))

    return step


def _along(resize: Callable[[Tensor], Tensor], sides: list[int], axis: int) -> csr_array:
    """The matrix of one axis, [its size behind, its size before]."""
    size, found = sides[axis], []
    for start in range(0, size, LINES):
        count = min(LINES, size - start)
        lines = torch.zeros(count, size, dtype=torch.float64)
        lines[torch.arange(count), torch.arange(start, start + count)] = 1.0
        wide = lines.reshape(count, 1, *(size if d == axis else 1 for d in range(len(sides))))
        made = resize(wide.expand(count, 1, *sides).clone())
        found.append(made.movedim(axis + 2, 1).reshape(count, made.shape[axis + 2], -1)[:, :, 0])
    return csr_array(torch.cat(found).numpy().T)


def _require_same(resize: Callable[[Tensor], Tensor], matrix: csr_array, sides: list[int], where: str) -> None:
    drawn = torch.rand(1, 1, *sides, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected: Array = resize(drawn.clone()).reshape(-1).numpy()
    found = matrix @ drawn.reshape(-1).numpy()
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=0.0, atol=EXACT):
        raise UnsupportedLayer(f"'{where}' weighs pixels by no product over its axes; it cannot be lowered exactly")
