"""Pools: averages as matrices, maxima as windows. Each acts on every channel alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
from scipy.sparse import csr_array, eye_array, kron

from formulation.errors import UnsupportedLayer
from formulation.lowering.maps.windows import adaptive, combined, each_axis, per_channel, require_outputs, sliding
from formulation.lowering.values import Made, Value
from formulation.network import Affine, Array, Index, MaxPool


def max_pooled(source: Value, axes: Sequence[Index], name: str) -> Made:
    """The largest input of each window; padding is no candidate."""
    windows = _windows(source, axes, name)
    if (windows < 0).all(axis=1).any():
        raise UnsupportedLayer(f"'{name}' has a window with nothing but padding; use less padding or no dilation")
    return Made(MaxPool(windows), _shape(source, axes), _origin(source, windows))


def average_pooled(source: Value, axes: Sequence[Index], counts: Array, name: str) -> Made:
    """The sum of each window over its count, [outputs of one channel]."""
    windows = _windows(source, axes, name)
    one = windows[: len(counts)]  # of the first channel
    row, column = np.nonzero(one >= 0)
    size = int(np.prod(source.shape[1:]))
    matrix = csr_array((1 / counts[row], (row, one[row, column])), shape=(len(one), size))
    weight = csr_array(kron(eye_array(source.shape[0]), matrix, format="csr"))
    return Made(Affine(weight, np.zeros(len(windows))), _shape(source, axes), _origin(source, windows))


def _windows(source: Value, axes: Sequence[Index], name: str) -> Index:
    require_outputs(axes, source.shape, name)
    return per_channel(combined(axes, source.shape[1:]), source.shape[0], int(np.prod(source.shape[1:])))


def _origin(source: Value, windows: Index) -> Index:
    """An activation of each window, or -1 where its units differ, as they may after a reshape."""
    some = windows.max(axis=1)
    same = (windows < 0) | (source.unit[windows] == source.unit[some][:, None])
    return np.where(same.all(axis=1), some, -1)


def _shape(source: Value, axes: Sequence[Index]) -> tuple[int, ...]:
    return (source.shape[0], *(len(axis) for axis in axes))


def sizes(source: Value, axes: int, name: str) -> tuple[int, ...]:
    """The axes that are pooled; raises UnsupportedLayer where the value has others."""
    if len(source.shape) != axes + 1:
        what = "channels, height, width" if axes == 2 else "channels, length"
        raise UnsupportedLayer(f"'{name}' pools a value of shape {source.shape}; it must be {what}")
    return source.shape[1:]


def max_pool(
    axes: int, name: str, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, indices: bool
) -> Callable[[Value], Made]:
    """The rule of MaxPool1d and MaxPool2d."""
    _refuse_indices(indices, name)
    kernels, paddings, dilations = (each_axis(v, axes) for v in (kernel, padding, dilation))
    strides = kernels if stride in (None, [], ()) else each_axis(stride, axes)

    def step(source: Value) -> Made:
        each = zip(sizes(source, axes, name), kernels, strides, paddings, dilations, strict=True)
        return max_pooled(source, [sliding(n, k, s, (p, p), d, ceil_mode=ceil_mode) for n, k, s, p, d in each], name)

    return step


def average_pool(
    axes: int, name: str, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, include: bool, divisor: Any = None
) -> Callable[[Value], Made]:
    """The rule of AvgPool1d and AvgPool2d: a count spans the padding, if included, but nothing beyond it."""
    kernels, paddings = each_axis(kernel, axes), each_axis(padding, axes)
    strides = kernels if stride in (None, [], ()) else each_axis(stride, axes)

    def step(source: Value) -> Made:
        windows, counts = [], []
        for n, k, s, p in zip(sizes(source, axes, name), kernels, strides, paddings, strict=True):
            windows.append(sliding(n, k, s, (p, p), ceil_mode=ceil_mode))
            spanned = np.minimum(k, n + 2 * p - s * np.arange(len(windows[-1])))
            counts.append(spanned if include else (windows[-1] >= 0).sum(axis=1))
        count = reduce(np.multiply.outer, counts).ravel().astype(float)
        return average_pooled(source, windows, count if divisor is None else np.full_like(count, divisor), name)

    return step


def adaptive_max_pool(axes: int, name: str, outputs: Any, indices: bool) -> Callable[[Value], Made]:
    _refuse_indices(indices, name)
    return lambda source: max_pooled(source, _adaptive(source, axes, outputs, name), name)


def adaptive_average_pool(axes: int, name: str, outputs: Any) -> Callable[[Value], Made]:
    return lambda source: averaged(source, _adaptive(source, axes, outputs, name), name)


def averaged(source: Value, windows: Sequence[Index], name: str) -> Made:
    """The plain mean of each window."""
    count = reduce(np.multiply.outer, [(axis >= 0).sum(axis=1) for axis in windows]).ravel().astype(float)
    return average_pooled(source, windows, count, name)


def _adaptive(source: Value, axes: int, outputs: Any, name: str) -> list[Index]:
    given = (outputs,) * axes if outputs is None or isinstance(outputs, int) else tuple(outputs)
    given = given * axes if len(given) == 1 else given
    return [
        adaptive(size, size if wanted is None else wanted)
        for size, wanted in zip(sizes(source, axes, name), given, strict=True)
    ]


def mean(name: str, dims: Any, keepdim: bool) -> Callable[[Value], Made]:
    """x.mean over any axes of an image."""
    return _reduced(averaged, name, dims, keepdim)


def total(name: str, dims: Any, keepdim: bool) -> Callable[[Value], Made]:
    """x.sum over any axes of an image."""

    def added(source: Value, windows: Sequence[Index], name: str) -> Made:
        return average_pooled(source, windows, np.ones(int(np.prod([len(axis) for axis in windows]))), name)

    return _reduced(added, name, dims, keepdim)


def largest(name: str, dims: Any, keepdim: bool) -> Callable[[Value], Made]:
    """x.amax over any axes of an image."""
    return _reduced(max_pooled, name, dims, keepdim)


def _reduced(
    reduce_windows: Callable[[Value, Sequence[Index], str], Made], name: str, dims: Any, keepdim: bool
) -> Callable[[Value], Made]:
    def step(source: Value) -> Made:
        ndim = len(source.shape) + 1
        over = {int(d) % ndim for d in ([dims] if isinstance(dims, int) else dims or [])}
        if not over or 0 in over:
            raise UnsupportedLayer(f"'{name}' joins images; name the axes behind them, as in x.mean([2, 3])")
        windows = [adaptive(n, 1 if d in over else n) for d, n in enumerate(source.shape, start=1)]
        # As one channel of as many axes, for those of the value may be joined as well.
        whole = replace(source, shape=(1, *source.shape))
        made = reduce_windows(whole, windows, name)
        shape = tuple(n for d, n in enumerate(made.shape[1:], start=1) if keepdim or d not in over)
        return Made(made.op, shape, made.origin)

    return step


def _refuse_indices(indices: bool, name: str) -> None:
    if indices:
        raise UnsupportedLayer(f"'{name}' returns the indices of its maxima; only the maxima can be lowered")
