"""A network as the program sees it: a graph of affine maps, ReLUs, max-pools and sums that evaluates itself.

All arrays are float64 and *activation first*: a value is an array [activations, images].
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, assert_never

import numpy as np

from formulation.errors import InvalidModel, InvalidSetting
from formulation.network.operations import (
    Add,
    Affine,
    Array,
    ChannelGate,
    Differentiable,
    Index,
    MaxPool,
    Op,
    Relu,
    Shift,
    arrays_of,
    per_activation,
)

Scores: TypeAlias = dict[str, Array]

INPUT = "input"
HELD = "its scores are held at 1"


@dataclass(frozen=True, eq=False)
class Node:
    """One operation, the values it reads (names of nodes or "input") and the size of what it makes."""

    name: str
    op: Op
    sources: tuple[str, ...]
    size: int

    @property
    def source(self) -> str:
        """The value that it reads, for operations that read one."""
        (source,) = self.sources
        return source


@dataclass(frozen=True)
class Layer:
    """A scored layer: its units and, for the published layer weight, its kernel's height times width.

    `others` are the layers that make or carry the same units, which sums and depthwise convolutions tie together.
    """

    name: str
    units: int
    kernel: int
    others: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Network:
    """Nodes in topological order, the last of which makes the logits, and the scored layers in that order.

    `unscored` says of each other layer (the output layer apart) why no score acts on it.
    """

    nodes: tuple[Node, ...]
    layers: tuple[Layer, ...]
    inputs: int
    unscored: Mapping[str, str] = field(default_factory=dict)

    @property
    def differentiable(self) -> Differentiable | None:
        """The operation that is the whole network, where it was not lowered."""
        op = self.nodes[-1].op
        return op if isinstance(op, Differentiable) else None

    @property
    def classes(self) -> int:
        return self.nodes[-1].size

    def node(self, name: str) -> Node:
        """The node of that name."""
        return next(node for node in self.nodes if node.name == name)

    def size(self, value: str) -> int:
        """Number of activations of a value: a node's name or "input"."""
        return self.inputs if value == INPUT else self.node(value).size

    @property
    def units(self) -> dict[str, int]:
        """Number of units per scored layer."""
        return {layer.name: layer.units for layer in self.layers}

    @property
    def score_count(self) -> int:
        """Number of all scores."""
        return sum(layer.units for layer in self.layers)

    @property
    def score_slices(self) -> dict[str, slice]:
        """Where each layer's scores lie in the vector of all scores."""
        ends = np.cumsum([layer.units for layer in self.layers])
        return {
            layer.name: slice(int(end) - layer.units, int(end)) for layer, end in zip(self.layers, ends, strict=True)
        }

    def stack(self, scores: Mapping[str, Sequence[float] | Array]) -> Array:
        """All scores (or masks) as one vector, in layer order."""
        return np.concatenate([np.zeros(0), *(np.asarray(scores[layer.name], dtype=float) for layer in self.layers)])

    def unstack(self, vector: Array) -> Scores:
        """The inverse of `stack`."""
        return {name: np.array(vector[where]) for name, where in self.score_slices.items()}

    def holding(self, names: Sequence[str]) -> Network:
        """The network with every score of these layers held at 1: they count as layers that are not scored.

        Raises InvalidSetting for a layer that is not scored, InvalidModel where none is left to score.
        """
        if not names:
            return self
        if unknown := [name for name in names if name not in self.units]:
            raise InvalidSetting(
                f"held={unknown[0]!r} is no scored layer; the scored layers are {', '.join(self.units)}"
            )
        layers = tuple(layer for layer in self.layers if layer.name not in names)
        if not layers:
            raise InvalidModel("nothing to score: every layer is held; leave a layer out of held")
        ends = np.cumsum([0, *(layer.units for layer in layers)])
        firsts = dict(zip((layer.name for layer in layers), ends, strict=False))
        position = [
            np.full(layer.units, -1) if layer.name in names else firsts[layer.name] + np.arange(layer.units)
            for layer in self.layers
        ]
        nodes = tuple(renumbered(node, np.concatenate([*position, [-1]])) for node in self.nodes)
        return replace(self, nodes=nodes, layers=layers, unscored={**self.unscored, **dict.fromkeys(names, HELD)})

    def evaluate(self, pixels: Array, masks: Mapping[str, Sequence[float] | Array] | None = None) -> Array:
        """Logits [classes, images] for pixels [inputs, images]; a unit whose mask is 0 emits 0."""
        kept = np.ones(self.score_count) if masks is None else self.stack(masks)
        values = {INPUT: np.asarray(pixels, dtype=float)}
        for node in self.nodes:
            sources = [values[name] for name in node.sources]
            match node.op:
                case Affine() | MaxPool():
                    values[node.name] = node.op.apply(*sources)
                case Relu(score):
                    values[node.name] = np.maximum(sources[0], 0.0) * per_activation(kept, score)[:, None]
                case ChannelGate(score):
                    values[node.name] = sources[0] * per_activation(kept, score)[:, None]
                case Add():
                    values[node.name] = np.sum(sources, axis=0)
                case Shift(score, amount):
                    values[node.name] = sources[0] + (amount * per_activation(kept, score))[:, None]
                case Differentiable(score, passes):
                    values[node.name] = passes.gated(sources[0], per_activation(kept, score))
                case _:
                    assert_never(node.op)
        return values[self.nodes[-1].name]

    def digest(self) -> str:
        """SHA-256 over the structure and every weight: two networks with one digest compute the same logits."""
        sha = hashlib.sha256(repr([(layer.name, layer.units, layer.kernel) for layer in self.layers]).encode())
        for node in self.nodes:
            sha.update(repr((node.name, type(node.op).__name__, node.sources, node.size)).encode())
            for part in arrays_of(node.op):
                sha.update(repr(part.shape).encode() + np.ascontiguousarray(part).tobytes())
        return sha.hexdigest()


def renumbered(node: Node, position: Index) -> Node:
    """The node with new numbers for its scores.

    Args:
        node: of a network.
        position: by old number the new one; the last is that of no score.
    """
    match node.op:
        case Relu(score):
            return replace(node, op=Relu(position[score]))
        case ChannelGate(score):
            return replace(node, op=ChannelGate(position[score]))
        case Shift(score, amount):
            return replace(node, op=Shift(position[score], amount))
        case Differentiable(score, passes):
            return replace(node, op=Differentiable(position[score], passes))
        case _:
            return node
