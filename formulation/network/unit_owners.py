"""Owners of a network's values: the unit that each activation is of, and the layers that read units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import assert_never

import numpy as np
from scipy.sparse import csr_array

from formulation.network.dag import INPUT, Network, Node
from formulation.network.operations import (
    Add,
    Affine,
    Array,
    ChannelGate,
    Differentiable,
    Index,
    MaxPool,
    Relu,
    Shift,
    not_lowered,
)

NO_UNIT = -1


def readers_of_units(network: Network, owners: Mapping[str, Index]) -> Iterator[Node]:
    """The dense affine nodes that read values of units.

    Args:
        network: the lowered network.
        owners: of every value, as `unit_of_values` finds them.
    """
    for node in network.nodes:
        dense = isinstance(node.op, Affine) and isinstance(node.op.weight, np.ndarray)
        if dense and (owners[node.source] != NO_UNIT).any():
            yield node


def unit_of_values(network: Network) -> dict[str, Index]:
    """By value the unit that each activation is of, NO_UNIT where several or none are: [activations]."""
    owners = {INPUT: np.full(network.inputs, NO_UNIT)}
    for node in network.nodes:
        sources = [owners[name] for name in node.sources]
        match node.op:
            case Relu(score) | ChannelGate(score):
                made = score
            case MaxPool(windows):
                members = np.where(windows >= 0, sources[0][windows], sources[0][windows[:, :1]])
                made = np.where((members == members[:, :1]).all(axis=1), members[:, 0], NO_UNIT)
            case Shift(score):
                made = np.where(sources[0] == score, score, NO_UNIT)
            case Add():
                made = np.where(np.all([each == sources[0] for each in sources], axis=0), sources[0], NO_UNIT)
            case Affine(weight, bias):
                made = np.full(node.size, NO_UNIT)
                if not isinstance(weight, np.ndarray):
                    made = _through(csr_array(weight), bias, sources[0])
            case Differentiable():
                raise not_lowered("the mask program")
            case _:
                assert_never(node.op)
        owners[node.name] = made
    return owners


def _through(weight: csr_array, bias: Array, owner: Index) -> Index:
    """Behind a sparse map without a constant: the unit, where a row reads one alone."""
    read = csr_array(weight)
    terms = np.diff(read.indptr)
    some = (terms > 0) & (bias == 0)
    units = owner[read.indices].astype(float)
    row = np.repeat(np.arange(len(bias)), terms)
    least, most = np.full(len(bias), np.inf), np.full(len(bias), -np.inf)
    np.minimum.at(least, row, units)
    np.maximum.at(most, row, units)
    alone = some & (least == most)
    return np.where(alone, np.where(alone, least, NO_UNIT), NO_UNIT).astype(np.int64)
