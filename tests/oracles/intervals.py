"""Interval bounds of one image, by arithmetic of their own."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from formulation import Network
from formulation.network import INPUT, Add, Affine, ChannelGate, Index, MaxPool, Relu, Shift

Array: TypeAlias = NDArray[np.float64]
Boxes: TypeAlias = dict[str, tuple[Array, Array]]


def dense_weight(op: Affine) -> Array:
    return op.weight if isinstance(op.weight, np.ndarray) else op.weight.toarray()


def interval_bounds(network: Network, low: Array, high: Array, *, valid: bool) -> Boxes:
    """[l, u] of what each ReLU and max-pool reads, for one image: W+ l + W- u + b and W+ u + W- l + b."""
    boxes: Boxes = {INPUT: (low, high)}
    read: Boxes = {}
    for node in network.nodes:
        (low, high), *others = (boxes[name] for name in node.sources)
        match node.op:
            case Affine(_, bias):
                weight = dense_weight(node.op)
                plus, minus = np.maximum(weight, 0), np.minimum(weight, 0)
                made = plus @ low + minus @ high + bias, plus @ high + minus @ low + bias
            case Relu(score):
                read[node.name] = low, high
                made = np.where(valid & (score >= 0), 0.0, np.maximum(low, 0)), np.maximum(high, 0)
            case MaxPool(windows):
                read[node.name] = low, high
                made = _largest(low, windows), _largest(high, windows)
            case ChannelGate(score):
                read[node.name] = low, high
                gone = valid & (score >= 0)
                made = np.where(gone, np.minimum(low, 0), low), np.where(gone, np.maximum(high, 0), high)
            case Add():
                made = sum((box[0] for box in others), low), sum((box[1] for box in others), high)
            case Shift(score, amount):
                gone = np.where(valid & (score >= 0), 0.0, amount)
                made = low + np.minimum(amount, gone), high + np.maximum(amount, gone)
        boxes[node.name] = made
    return read


def _largest(bounds: Array, windows: Index) -> Array:
    """The largest bound of each window; -1 is padding."""
    return np.array([bounds[each[each >= 0]].max() for each in windows])


def dominant(window: Index, low: Array, high: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Of each member of the windows: whether its window has a dominant input, and whether it is the first such."""
    decided, picked = np.zeros(len(window), dtype=bool), np.zeros(len(window), dtype=bool)
    for each in np.unique(window):
        members = np.flatnonzero(window == each)
        found = [k for k in members if (low[k] >= high[members[members != k]]).all()]
        decided[members] = bool(found)
        picked[found[:1]] = True
    return decided, picked
