"""Ranges that a relaxed program's constraints imply for the values of a batch, rounded outwards.

A max-pool's output without bounds of its own has those that its inputs and its inequalities imply.
"""

from __future__ import annotations

import numpy as np

from formulation.duality.enclosures import TINY, Enclosure, through
from formulation.network import (
    INPUT,
    Add,
    Affine,
    Array,
    ChannelGate,
    Differentiable,
    Index,
    MaxPool,
    Network,
    Relu,
    Shift,
    not_lowered,
)
from formulation.relaxation import ACTIVE, NO_PICK, UNSTABLE, ReducedBatch, pool_gate_of, relu_gate_of


def implied_ranges(network: Network, batch: ReducedBatch) -> dict[str, Enclosure]:
    """Where every value of a batch may lie in the relaxed program, by its constraints alone."""
    values = {INPUT: Enclosure.exactly(batch.pixels)}
    for node in network.nodes:
        read = values[node.sources[0]]
        match node.op:
            case Affine(weight, bias):
                values[node.name] = through(weight, read) + Enclosure.exactly(bias[:, None])
            case Add():
                for other in node.sources[1:]:
                    read = read + values[other]
                values[node.name] = read
            case Shift(score, amount):
                values[node.name] = read + _scaled(amount[:, None], score)
            case Relu(score) | ChannelGate(score):
                values[node.name] = _relu_range(batch, node.name, read, score)
            case Differentiable():
                raise not_lowered("a max-pool's range")
            case MaxPool(windows):
                values[node.name] = _pool_range(batch, node.name, read, windows)
    return values


def _scaled(values: Array, score: Index) -> Enclosure:
    """values times a score in [0, 1], or themselves where none acts."""
    acted = (score >= 0)[:, None] & np.ones(values.shape, dtype=bool)
    return Enclosure(np.where(acted, values / 2, values), np.where(acted, np.abs(values) / 2 + TINY, 0.0))


def _relu_range(batch: ReducedBatch, name: str, y: Enclosure, score: Index) -> Enclosure:
    gate = relu_gate_of(batch, name)
    lost = np.where((score >= 0)[:, None], gate.cap, 0.0)
    gated = y - Enclosure(lost / 2, np.abs(lost) / 2 + TINY)
    is_open = gate.state == ACTIVE
    low = np.where(is_open, np.maximum(gated.low, np.where(np.isfinite(gate.lower), gate.lower, -np.inf)), 0.0)
    high = np.where(is_open, np.minimum(gated.high, np.where(np.isfinite(gate.upper), gate.upper, np.inf)), 0.0)
    high = np.where(gate.state == UNSTABLE, gate.cap, high)
    return Enclosure.between(np.minimum(low, high), np.maximum(low, high))


def _pool_range(batch: ReducedBatch, name: str, h: Enclosure, windows: Index) -> Enclosure:
    """The picked input's range; where unstable at least every input, and by (6) at most one and its slack."""
    gate = pool_gate_of(batch, name)
    there = (windows >= 0)[:, :, None]
    low = np.where(there, h.low[windows], -np.inf).max(axis=1)
    high = np.where(there, np.nextafter(h.high[windows] + gate.slack, np.inf), -np.inf).max(axis=1)
    high = np.minimum(high, gate.top)
    picked = np.maximum(np.take_along_axis(windows, np.maximum(gate.pick, 0), axis=1), 0)
    stable = gate.pick != NO_PICK
    low = np.where(stable, np.take_along_axis(h.low, picked, axis=0), low)
    high = np.where(stable, np.take_along_axis(h.high, picked, axis=0), high)
    return Enclosure.between(np.minimum(low, high), np.maximum(low, high))
