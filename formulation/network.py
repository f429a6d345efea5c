"""A network as the program sees it: a graph of affine maps and ReLUs that evaluates itself.

All arrays are float64 and *activation first*: a value is an array [activations, images].
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, assert_never

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Array: TypeAlias = NDArray[np.float64]
Matrix: TypeAlias = Array | csr_array
Scores: TypeAlias = dict[str, Array]

INPUT = "input"


@dataclass(frozen=True, eq=False)
class Affine:
    """y = W h + b, W [outputs, inputs] dense or sparse, b [outputs]."""

    weight: Matrix
    bias: Array

    def apply(self, h: Array) -> Array:
        """W h + b for h [inputs, images]."""
        return self.weight @ h + self.bias[:, None]


@dataclass(frozen=True, eq=False)
class Relu:
    """h = max(0, y), gated by the units of one layer.

    `unit[j]` is the unit of `layer` that activation j belongs to: all pixels of a feature map share one.
    """

    layer: str
    unit: NDArray[np.int64]


Op: TypeAlias = Affine | Relu


@dataclass(frozen=True, eq=False)
class Node:
    """One operation, the value it reads (a node's name or "input") and the size of what it makes."""

    name: str
    op: Op
    source: str
    size: int


@dataclass(frozen=True)
class Layer:
    """A scored layer: its units and, for the published layer weight, its kernel's height times width."""

    name: str
    units: int
    kernel: int
    gate: str  # the Relu node that its scores act on


@dataclass(frozen=True, eq=False)
class Network:
    """Nodes in topological order, the last of which makes the logits, and the scored layers in that order."""

    nodes: tuple[Node, ...]
    layers: tuple[Layer, ...]
    inputs: int

    @property
    def classes(self) -> int:
        return self.nodes[-1].size

    @property
    def units(self) -> dict[str, int]:
        """Number of units per scored layer."""
        return {layer.name: layer.units for layer in self.layers}

    @property
    def score_slices(self) -> dict[str, slice]:
        """Where each layer's scores lie in the vector of all scores."""
        ends = np.cumsum([layer.units for layer in self.layers])
        return {
            layer.name: slice(int(end) - layer.units, int(end)) for layer, end in zip(self.layers, ends, strict=True)
        }

    def stack(self, scores: Mapping[str, Array]) -> Array:
        """All scores (or masks) as one vector, in layer order."""
        return np.concatenate([np.asarray(scores[layer.name], dtype=float) for layer in self.layers])

    def unstack(self, vector: Array) -> Scores:
        """The inverse of `stack`."""
        return {name: np.array(vector[where]) for name, where in self.score_slices.items()}

    def evaluate(self, pixels: Array, masks: Mapping[str, Sequence[float] | Array] | None = None) -> Array:
        """Logits [classes, images] for pixels [inputs, images]; a unit whose mask is 0 emits 0."""
        values = {INPUT: np.asarray(pixels, dtype=float)}
        for node in self.nodes:
            source = values[node.source]
            match node.op:
                case Affine():
                    values[node.name] = node.op.apply(source)
                case Relu(layer, unit):
                    hidden = np.maximum(source, 0.0)
                    if masks is not None:
                        hidden = hidden * np.asarray(masks[layer], dtype=float)[unit][:, None]
                    values[node.name] = hidden
                case _:
                    assert_never(node.op)
        return values[self.nodes[-1].name]

    def digest(self) -> str:
        """SHA-256 over the structure and every weight: two networks with one digest compute the same logits."""
        sha = hashlib.sha256()
        for node in self.nodes:
            sha.update(f"{node.name}|{type(node.op).__name__}|{node.source}|{node.size}".encode())
            match node.op:
                case Affine(weight, bias):
                    parts = (
                        (weight,) if isinstance(weight, np.ndarray) else (weight.data, weight.indices, weight.indptr)
                    )
                    for part in (*parts, bias):
                        sha.update(np.ascontiguousarray(part).tobytes())
                case Relu(layer, unit):
                    sha.update(f"{layer}".encode() + np.ascontiguousarray(unit).tobytes())
                case _:
                    assert_never(node.op)
        return sha.hexdigest()
