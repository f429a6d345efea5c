"""What the other rules are made of: ReLUs, constants per activation, changes of shape."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from formulation.errors import UnsupportedLayer
from formulation.lowering.values import Made, Scaling, Value
from formulation.network import Array, Relu


def relu(source: Value) -> Made:
    everything = np.arange(len(source.unit))
    return Made(Relu(np.full(len(everything), -1)), source.shape, everything)


def scaled(source: Value, scale: Array, shift: Array) -> Made:
    return Made(Scaling(scale, shift), source.shape, np.arange(len(source.unit)))


def normalised(source: Value, scale: Array, shift: Array, dims: tuple[int, ...], name: str) -> Made:
    """A scale and a shift per channel, for values of `dims` axes."""
    if len(source.shape) not in dims or source.shape[0] != len(scale):
        raise UnsupportedLayer(
            f"'{name}' normalises {len(scale)} channels and reads a value of shape {source.shape}; check its layers"
        )
    pixels = int(np.prod(source.shape[1:]))
    return scaled(source, np.repeat(scale, pixels), np.repeat(shift, pixels))


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
