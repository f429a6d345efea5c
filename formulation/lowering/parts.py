"""Parts shared by lowering rules: ReLUs, constants per activation, changes of shape, moves of values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from formulation.errors import UnsupportedLayer
from formulation.lowering.values import Bent, LoweringRule, Made, Scaling, Value
from formulation.network import Affine, Array, Index, Relu
from tracing import TracedNode, ops, recomputed

IMAGES = 2  # that moves are tried on at once: what mixes images, or counts on one, shows


def relu(source: Value) -> Made:
    everything = np.arange(len(source.unit))
    return Made(Relu(np.full(len(everything), -1)), source.shape, everything)


def bent(
    source: Value, *, slope: float | Array = 0.0, constant: float = 0.0, kinks: Sequence[tuple[float, float | Array]]
) -> Made:
    """A piecewise linear function; a slope or weight is one number, or one per channel."""
    wide = (-1, *(1,) * (len(source.shape) - 1))

    def each(value: float | Array) -> Array:
        values = np.asarray(value, dtype=np.float64).reshape(-1)
        if len(values) not in (1, source.shape[0]):
            raise UnsupportedLayer(f"{len(values)} slopes for a value of shape {source.shape}; give one per channel")
        return np.broadcast_to(values.reshape(wide), source.shape).reshape(-1).copy()

    op = Bent(each(slope), each(constant), tuple((each(at), each(weight)) for at, weight in kinks))
    return Made(op, source.shape, np.arange(len(source.unit)))


def between(source: Value, low: float | None, high: float | None) -> Made:
    """Values clamped to [low, high], either of which may be missing."""
    kinks = ([] if low is None else [(float(low), 1.0)]) + ([] if high is None else [(float(high), -1.0)])
    if low is None:  # y - relu(y - high)
        return bent(source, slope=1.0, kinks=kinks)
    return bent(source, constant=float(low), kinks=kinks)


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


def channels_scaled(source: Value, scale: Array, shift: Array, name: str) -> Made:
    """A scale and a shift per channel, or one for all."""
    if not source.shape or len(scale) not in (1, source.shape[0]):
        raise UnsupportedLayer(f"'{name}' has {len(scale)} channels and reads a value of shape {source.shape}")
    values = np.ones(source.shape)
    wide = (-1, *(1,) * (len(source.shape) - 1))
    return scaled(source, (values * scale.reshape(wide)).reshape(-1), (values * shift.reshape(wide)).reshape(-1))


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


def moved(node: TracedNode, where: str) -> LoweringRule:
    """The rule of a call whose every result is one value of its source, or a constant.

    What goes where is found by running the call itself on numbered values: every argument then means what torch means.
    """
    return _moved(lambda x: _called(node, x), node.shape, where)


def _moved(call: Callable[[Tensor], Any], one: tuple[int, ...] | None, where: str) -> LoweringRule:
    def step(source: Value) -> Made | Value:
        positions, constants, shape = _origins(call, source.shape, where)
        if one is not None and one != (1, *shape):
            raise UnsupportedLayer(
                f"'{where}' makes {one} of one image and {(IMAGES, *shape)} of {IMAGES}; name the dimension, as "
                "in x.squeeze(-1)"
            )
        if np.array_equal(positions, np.arange(len(source.unit))) and not constants.any():
            return replace(source, shape=shape)
        matrix = selection(positions, len(source.unit))
        origin = positions if constants.any() else _filled(positions, source.unit, shape)
        return Made(Affine(matrix, constants), shape, origin)

    return step


def _filled(positions: Index, unit: Index, shape: tuple[int, ...]) -> Index:
    """The positions, in place of -1 some position of the same channel where all of its values are of one unit.

    A channel with zeros around it is its unit's as a whole: a norm behind it shifts them together.
    """
    if not shape or (positions >= 0).all():
        return positions
    channels = positions.reshape(shape[0], -1)
    some = channels.max(axis=1, keepdims=True)
    alike = (channels < 0) | (unit[channels] == unit[some])
    return np.where((channels < 0) & alike.all(axis=1, keepdims=True), some, channels).reshape(-1)


def selection(positions: Index, size: int) -> csr_array:
    """The matrix [len(positions), size] that takes value positions[k] for result k, and 0 for -1."""
    (rows,) = np.nonzero(positions >= 0)
    return csr_array((np.ones(len(rows)), (rows, positions[rows])), shape=(len(positions), size))


def _origins(call: Callable[[Tensor], Any], shape: tuple[int, ...], where: str) -> tuple[Index, Array, tuple[int, ...]]:
    """Which value of one image each result is, -1 for a constant; the constants, 0 elsewhere; the results' shape."""
    size = int(np.prod(shape))
    numbers = torch.arange(1, IMAGES * size + 1, dtype=torch.float64).reshape(IMAGES, *shape)
    drawn = torch.rand(IMAGES, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    constants, numbered, tried = (_through(call, x, where) for x in (torch.zeros_like(numbers), numbers, drawn))
    positions = np.rint(numbered - constants).astype(np.int64).reshape(IMAGES, -1) - 1
    flat = np.append(drawn.reshape(-1).numpy(), 0.0)
    inside = ((positions >= -1) & (positions < IMAGES * size)).all()
    if not inside or not np.array_equal(flat[positions] + constants.reshape(IMAGES, -1), tried.reshape(IMAGES, -1)):
        raise UnsupportedLayer(
            f"'{where}' does not only move values; it cannot be lowered exactly (resizing: mode='nearest' can)"
        )
    first, second = positions
    if not np.array_equal(np.where(first < 0, -1, first + size), second):
        raise UnsupportedLayer(f"'{where}' moves values from one image to another; keep the batch first")
    return first, constants[0].reshape(-1), tuple(constants.shape[1:])


def _through(call: Callable[[Tensor], Any], x: Tensor, where: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What the call makes of images, by way of the call that cut them into parts where it takes one of these."""
    made = call(x)
    if not isinstance(made, Tensor) or made.ndim == 0 or made.shape[0] != IMAGES:
        found = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
        raise UnsupportedLayer(f"'{where}' makes {found} of {IMAGES} images; keep the batch first")
    return made.double().numpy()


def _called(node: TracedNode, x: Tensor) -> Any:
    """What a call makes of the tensor behind the calls that hand on several values at once."""
    (source,) = node.live_sources
    return recomputed(node, _called(source, x) if makes_several(source) else x)


def makes_several(node: TracedNode) -> bool:
    """Whether a value is a tuple of tensors, as the parts of one are: its rule leaves the tensor as it is."""
    return node.op is ops.PARTS or (node.op is ops.SELECT and node.shape is None)


def each_of(node: TracedNode, where: str) -> list[LoweringRule]:
    """The rules of the single parts that a value of several consists of."""
    assert node.live_sources, "what makes several values reads one"
    shape = tensor_behind(node).shape
    assert shape is not None, "the values come of a tensor"
    count = len(_called(node, torch.zeros(shape)))

    def taking(k: int) -> Callable[[Tensor], Any]:
        return lambda x: _called(node, x)[k]

    return [_moved(taking(k), None, where) for k in range(count)]


def tensor_behind(node: TracedNode) -> TracedNode:
    """The tensor that the parts are of."""
    (source,) = node.live_sources
    return tensor_behind(source) if makes_several(source) else source
