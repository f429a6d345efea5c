"""Affine maps by trial: an operation that has no rule of its own as a matrix, where it is found to be affine.

Its columns are what becomes of the images with a single 1, less what becomes of 0. That it is affine is tried on random
images of several scales; a network whose logits are not those of its module is refused besides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from formulation.errors import UnsupportedLayer
from formulation.lowering.values import Made, Value
from formulation.network import Affine, Array, Index

INPUTS, ENTRIES = 2**11, 2**22  # of a matrix, at most
AT_ONCE = 64  # images
SCALES = (1e-3, 1.0, 1e3)
EXACT = 1e-10  # of the largest result
REFUSALS = (RuntimeError, TypeError, ValueError, AttributeError, LookupError, AssertionError, ArithmeticError)


def found_affine(call: Callable[[Tensor], Any], refusal: UnsupportedLayer) -> Callable[[Value], Made]:
    """The rule of a call of one activation, h -> M h + c, whatever it is.

    Args:
        call: takes images [n, ...], however many, in float64.
        refusal: raised when placed, where the call is not affine, takes no such numbers, or is too large to be tried.
    """

    def step(source: Value) -> Made:
        size = len(source.unit)
        if size > INPUTS:
            raise refusal
        try:
            constants, shape = _through(call, torch.zeros(1, *source.shape, dtype=torch.float64))
            if constants.size * size > ENTRIES:
                raise refusal
            matrix = _columns(call, source.shape, size) - constants.reshape(1, -1)
            affine = all(_agrees(call, matrix, constants, source.shape, scale) for scale in SCALES)
        except REFUSALS as error:
            raise refusal from error
        if not affine:
            raise refusal
        weight = csr_array(matrix.T)
        return Made(Affine(weight, constants.reshape(-1)), shape, _origin(weight, source))

    return step


def _through(call: Callable[[Tensor], Any], images: Tensor) -> tuple[Array, tuple[int, ...]]:
    made = call(images.clone())
    if not isinstance(made, Tensor) or made.ndim == 0 or len(made) != len(images) or made.dtype != torch.float64:
        raise TypeError("no tensor of as many images")
    return made.reshape(len(images), -1).numpy(), tuple(made.shape[1:])


def _columns(call: Callable[[Tensor], Any], shape: tuple[int, ...], size: int) -> Array:
    """What becomes of each image with a single 1, [size, results]."""
    found = []
    for start in range(0, size, AT_ONCE):
        count = min(AT_ONCE, size - start)
        single = torch.zeros(count, size, dtype=torch.float64)
        single[torch.arange(count), torch.arange(start, start + count)] = 1.0
        found.append(_through(call, single.reshape(count, *shape))[0])
    return np.concatenate(found)


def _agrees(
    call: Callable[[Tensor], Any], matrix: Array, constants: Array, shape: tuple[int, ...], scale: float
) -> bool:
    draw = torch.Generator().manual_seed(0)
    images = scale * torch.randn(3, *shape, dtype=torch.float64, generator=draw)
    made, _ = _through(call, images)
    found = images.flatten(1).numpy() @ matrix + constants
    return bool(np.isfinite(made).all() and np.abs(found - made).max() <= EXACT * max(1.0, np.abs(made).max()))


def _origin(weight: csr_array, source: Value) -> Index:
    """By result an activation that it is made of, where all of these belong to one unit; else -1."""
    origin: Index = np.full(weight.shape[0], -1)
    for row in range(weight.shape[0]):
        read = weight.indices[weight.indptr[row] : weight.indptr[row + 1]]
        if len(read) and (source.unit[read] == source.unit[read[0]]).all():
            origin[row] = read[0]
    return origin
