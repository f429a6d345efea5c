"""First-order expansion of a network around a mask: logits, their slopes by the gates, and who reads the units.

With m the mask, h_j = m_j max(y_j, 0) what a unit hands on (m_j y_j at a channel gate), and phases and picks those of
the masked network,

    o_i(s) = o_i + D_i (s - m),        D_ij = d o_i / d s_j   at s = m

and where a dense layer with weights W reads values z of units, J_i = d o_i / d (what it computes), a change U of its
weights moves the logits by J_i U z_i; z is what the units would hand on were they kept. At a mask of ones this is the
program of the `linear` gate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from scipy.sparse import csr_array

from formulation.deadline import NEVER, Deadline
from formulation.network import (
    INPUT,
    NO_UNIT,
    Add,
    Affine,
    Array,
    ChannelGate,
    Differentiable,
    Index,
    MaxPool,
    Network,
    Node,
    Relu,
    Shift,
    not_lowered,
    per_activation,
    readers_of_units,
    unit_of_values,
)

BATCH_NUMBERS = 2**22  # numbers of the largest value that are held at once


@dataclass(frozen=True, eq=False)
class ReadingLayer:
    """A dense layer that reads units.

    Attributes:
        name: of its node in the lowered network.
        weight: W, the columns that units own, [outputs, columns].
        values: z, [columns, images].
        jacobian: J, [classes, outputs, images]; None where the layer makes the logits themselves.
        owner: of each column the unit, by its number among all scores, [columns]; NO_UNIT for the last one, which is
            the layer's constant: z is 1 there.
    """

    name: str
    weight: Array
    values: Array
    jacobian: Array | None
    owner: Index

    def kept(self, scores: Array) -> Array:
        """The score of each column's unit, 1 for the constant."""
        return per_activation(scores, self.owner)

    def moved(self, change: Array) -> Array:
        """J_i U z_i, [classes, images], for a change U of the weights."""
        read = change @ self.values
        return read if self.jacobian is None else np.einsum("cmi,mi->ci", self.jacobian, read)

    def pulled(self, duals: Array) -> Array:
        """sum_i J_i' a_i z_i', [outputs, columns], for a [classes, images]."""
        back = duals if self.jacobian is None else np.einsum("cmi,ci->mi", self.jacobian, duals)
        made: Array = back @ self.values.T
        return made


@dataclass(frozen=True, eq=False)
class Expansion:
    """The network to first order around a mask.

    Attributes:
        network: the lowered network.
        mask: m, 0 or 1 per unit of all layers.
        logits, dense: of the masked and of the whole network, [classes, images].
        slopes: D, [classes * images, units].
        readings: the dense layers that read units; what others read of a unit keeps its weights.
    """

    network: Network
    mask: Array
    logits: Array
    dense: Array
    slopes: Array
    readings: tuple[ReadingLayer, ...]

    @property
    def units(self) -> int:
        return len(self.mask)

    @property
    def images(self) -> int:
        return int(self.logits.shape[1])

    def logits_at(self, scores: Array) -> Array:
        """o_i + D_i (s - m), [classes, images]: nobody's weights changed."""
        made: Array = self.logits + (self.slopes @ (scores - self.mask)).reshape(self.logits.shape)
        return made


def expand(network: Network, pixels: Array, mask: Array | None = None, deadline: Deadline = NEVER) -> Expansion:
    """The expansion around a mask for pixels [inputs, images].

    Memory: classes * images * units numbers for the slopes, and as many again for each reading layer's outputs.

    Args:
        network: the lowered network.
        pixels: [inputs, images].
        mask: one 0 or 1 per unit of all scored layers; ones by default.
        deadline: no batch is begun behind it.

    Raises:
        TimeLimitReached: the deadline came first.
    """
    kept = np.ones(network.score_count) if mask is None else np.asarray(mask, dtype=float)
    largest = max(network.inputs, *(node.size for node in network.nodes))
    size = max(1, min(pixels.shape[1], BATCH_NUMBERS // largest))
    owners = unit_of_values(network)
    pieces = []
    for first in range(0, pixels.shape[1], size):
        deadline.require(f"expanding image {first + 1} of {pixels.shape[1]}")
        pieces.append(_Batch(network, pixels[:, first : first + size], kept, owners).expanded())
    logits, slopes, jacobians, values = zip(*pieces, strict=True)
    whole = np.concatenate(slopes, axis=1)
    readings = tuple(
        _reading(node, owners[node.source], values, jacobians) for node in readers_of_units(network, owners)
    )
    base = np.concatenate(logits, axis=1)
    dense = base if kept.all() else network.evaluate(pixels)
    return Expansion(network, kept, base, dense, whole.reshape(-1, network.score_count), readings)


def _reading(
    node: Node, owner: Index, values: tuple[dict[str, Array], ...], jacobians: tuple[dict[str, Array], ...]
) -> ReadingLayer:
    assert isinstance(node.op, Affine)
    assert isinstance(node.op.weight, np.ndarray)
    owned = np.flatnonzero(owner != NO_UNIT)
    read = np.concatenate([each[node.source] for each in values], axis=1)[owned]
    read = np.vstack([read, np.ones(read.shape[1])])
    weight = np.hstack([node.op.weight[:, owned], node.op.bias[:, None]])
    own = np.append(owner[owned], NO_UNIT)
    jacobian = np.concatenate([each[node.name] for each in jacobians], axis=2) if node.name in jacobians[0] else None
    return ReadingLayer(node.name, weight, read, jacobian, own)


class _Batch:
    """Some images at the mask: a pass forwards, and one backwards for each class."""

    def __init__(self, network: Network, pixels: Array, kept: Array, owners: Mapping[str, Index]) -> None:
        self.network, self.kept, self.owners = network, kept, owners
        self.images = pixels.shape[1]
        self.values: dict[str, Array] = {INPUT: pixels}
        self.free: dict[str, Array] = {INPUT: pixels}  # what owned values would be, were their unit kept
        self.picks: dict[str, Index] = {}
        for node in network.nodes:
            self._forward(node)

    def _forward(self, node: Node) -> None:
        sources = [self.values[name] for name in node.sources]
        free = [self.free[name] for name in node.sources]
        match node.op:
            case Affine():
                made, own = node.op.apply(sources[0]), None
                if self._owned(node.name):
                    own = node.op.apply(free[0])
            case Relu(score):
                own = np.maximum(sources[0], 0.0)
                made = own * per_activation(self.kept, score)[:, None]
            case ChannelGate(score):
                own = sources[0]
                made = own * per_activation(self.kept, score)[:, None]
            case MaxPool(windows):
                owned = self.owners[node.name] != NO_UNIT
                read = np.where(owned[:, None, None], _windowed(free[0], windows), _windowed(sources[0], windows))
                place = read.argmax(axis=1)
                self.picks[node.name] = np.take_along_axis(windows, place, axis=1)
                made = np.take_along_axis(sources[0], self.picks[node.name], axis=0)
                own = np.take_along_axis(free[0], self.picks[node.name], axis=0)
            case Add():
                made, own = np.sum(sources, axis=0), np.sum(free, axis=0)
            case Shift(score, amount):
                made = sources[0] + (amount * per_activation(self.kept, score))[:, None]
                own = free[0] + amount[:, None]
            case Differentiable():
                raise not_lowered("the mask program")
            case _:
                assert_never(node.op)
        self.values[node.name] = made
        self.free[node.name] = made if own is None else own

    def _owned(self, value: str) -> bool:
        return bool((self.owners[value] != NO_UNIT).any())

    def expanded(self) -> tuple[Array, Array, dict[str, Array], dict[str, Array]]:
        """Logits, slopes [classes, images, units], the readings' jacobians, and what they read."""
        network, last = self.network, self.network.nodes[-1].name
        readers = list(readers_of_units(network, self.owners))
        jacobians = {n.name: np.empty((network.classes, n.size, self.images)) for n in readers if n.name != last}
        slopes = np.zeros((network.classes, self.images, network.score_count))
        spread = {
            n.name: _spread(n, network.score_count)
            for n in network.nodes
            if isinstance(n.op, Relu | Shift | ChannelGate)
        }
        for label in range(network.classes):
            seeds = np.zeros((network.classes, self.images))
            seeds[label] = 1.0
            weights = {last: seeds}
            for node in reversed(network.nodes):
                a = weights.pop(node.name, None)
                if a is not None:
                    if node.name in jacobians:
                        jacobians[node.name][label] = a
                    self._backward(node, a, weights, slopes[label], spread)
        return self.values[last], slopes, jacobians, {n.source: self.free[n.source] for n in readers}

    def _backward(
        self, node: Node, a: Array, weights: dict[str, Array], slopes: Array, spread: Mapping[str, csr_array]
    ) -> None:
        match node.op:
            case Affine(weight):
                back = weight.T @ a if node.source != INPUT else a
            case Relu(score):
                y = self.values[node.source]
                slopes += (spread[node.name] @ (np.maximum(y, 0.0) * a)).T
                back = a * per_activation(self.kept, score)[:, None] * (y > 0)
            case ChannelGate(score):
                slopes += (spread[node.name] @ (self.values[node.source] * a)).T
                back = a * per_activation(self.kept, score)[:, None]
            case MaxPool():
                back = np.zeros((self.network.size(node.source), self.images))
                np.add.at(back, (self.picks[node.name], np.arange(self.images)[None, :]), a)
            case Shift(_, amount):
                slopes += (spread[node.name] @ (amount[:, None] * a)).T
                back = a
            case Add():
                back = a
            case Differentiable():
                raise not_lowered("the mask program")
            case _:
                assert_never(node.op)
        for source in node.sources:
            if source != INPUT:
                weights[source] = weights[source] + back if source in weights else back


def _windowed(h: Array, windows: Index) -> Array:
    """The members of each window, [outputs, members, images], -inf where there is none."""
    made: Array = np.where((windows >= 0)[:, :, None], h[windows], -np.inf)
    return made


def _spread(node: Node, count: int) -> csr_array:
    """[scores, activations] that sums activations by unit."""
    assert isinstance(node.op, Relu | Shift | ChannelGate)
    acted = np.flatnonzero(node.op.score >= 0)
    return csr_array((np.ones(len(acted)), (node.op.score[acted], acted)), shape=(count, node.size))
