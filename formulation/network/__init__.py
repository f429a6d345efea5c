"""The lowered network: a directed acyclic graph of affine maps, ReLUs, max-pools and sums in float64.

It evaluates itself in numpy, with or without a mask, and is what every other room of the formulation reads.
"""

from formulation.network.dag import INPUT, Layer, Network, Node, Scores, renumbered
from formulation.network.gate_splitting import with_relu_gates
from formulation.network.operations import (
    Add,
    Affine,
    Array,
    ChannelGate,
    Differentiable,
    GatedPasses,
    Index,
    Labels,
    Matrix,
    MaxPool,
    Op,
    Relu,
    Shift,
    not_lowered,
    per_activation,
)
from formulation.network.unit_owners import NO_UNIT, readers_of_units, unit_of_values
from formulation.network.unstable import Unstable

__all__ = [
    "INPUT",
    "NO_UNIT",
    "Add",
    "Affine",
    "Array",
    "ChannelGate",
    "Differentiable",
    "GatedPasses",
    "Index",
    "Labels",
    "Layer",
    "Matrix",
    "MaxPool",
    "Network",
    "Node",
    "Op",
    "Relu",
    "Scores",
    "Shift",
    "Unstable",
    "not_lowered",
    "per_activation",
    "readers_of_units",
    "renumbered",
    "unit_of_values",
    "with_relu_gates",
]
