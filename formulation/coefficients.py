"""Coefficients of what a gated node reads, and of its rows: sparse as long as few activations carry a weight.

A single activation reads few others through a convolution, so its weights are sent backwards one by one until too many
carry one; from there on the dense sweep of `sweeps.backward` is cheaper, in blocks of rows that fit into memory.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array, vstack

from formulation.gates import OPEN
from formulation.network import INPUT, Affine, Index, MaxPool, Network, Relu
from formulation.reduction import ReducedImages, Reduction
from formulation.rows import padded
from formulation.sweeps import backward, pool_gate_of, relu_gate_of

SPARSE = 0.3  # share of weights up to which a sweep stays on sparse ones
ROW_NUMBERS = 2**23  # rows times activations swept backwards at once


def row_coefficients(reduction: Reduction, part: ReducedImages, name: str, index: tuple[Index, ...]) -> csr_array:
    """Coefficients [k, columns] of the rows of a gated node at `index` into its `lower` (image last).

    The form of a ReLU's row is h where it is open and y elsewhere, that of a max-pool's window h_pick - h_j.
    """
    node, each = reduction.network.node(name), np.arange(len(index[0]))
    if isinstance(node.op, MaxPool):
        plus, minus = picked_inputs(part, reduction.network, name, index)
        weights = csr_array((np.ones(len(each)), (each, plus)), shape=(len(each), reduction.network.size(node.source)))
        weights = weights - csr_array((np.ones(len(each)), (each, minus)), shape=weights.shape)
        return read_coefficients(reduction, part, name, csr_array(weights), index[-1])
    gate = relu_gate_of(part, name)
    chosen = (index[0], index[-1])
    cap = np.where(gate.state[chosen] == OPEN, gate.cap[chosen], 0.0)
    own = csr_array((cap, (each, index[0])), shape=(len(each), node.size)) @ reduction.spread[name].T
    weights = csr_array((np.ones(len(each)), (each, index[0])), shape=(len(each), node.size))
    return read_coefficients(reduction, part, name, weights, index[-1], csr_array(own))


def picked_inputs(part: ReducedImages, network: Network, name: str, index: tuple[Index, ...]) -> tuple[Index, Index]:
    """The inputs whose difference is the form of a max-pool's rows: the picked one and the other one, [k] each."""
    op = network.node(name).op
    assert isinstance(op, MaxPool)
    window, each = op.windows[index[0]], np.arange(len(index[0]))
    return window[each, pool_gate_of(part, name).pick[index[0], index[-1]]], window[each, index[1]]


def read_coefficients(
    reduction: Reduction,
    part: ReducedImages,
    name: str,
    weights: csr_array,
    image: Index,
    direct: csr_array | None = None,
) -> csr_array:
    """Coefficients [k, columns] of weighted sums, weights [k, activations], of what a node reads on the images [k].

    `direct` [k, scores] are coefficients that the sums have on the scores besides.
    """
    value, weights, own = _while_sparse(reduction, part, reduction.network.node(name).source, weights, image)
    if direct is not None:
        own = own + padded(csr_array(direct), reduction.columns)
    if value == INPUT or not weights.nnz:
        return own
    at_once = max(1, ROW_NUMBERS // max(node.size for node in reduction.network.nodes))
    blocks = []
    for start in range(0, len(image), at_once):
        some = slice(start, start + at_once)
        blocks.append(backward(reduction, part, {value: weights[some].T.toarray(order="C")}, image[some]))
    return csr_array(vstack(blocks, format="csr") + own)


def _while_sparse(
    reduction: Reduction, part: ReducedImages, value: str, weights: csr_array, image: Index
) -> tuple[str, csr_array, csr_array]:
    """A backward sweep on sparse weights [k, activations] as far as they stay sparse: a single activation reads few.

    Returns:
        The value that the sweep has reached, the weights there, and the coefficients met on the way, [k, columns].
    """
    network, found = reduction.network, csr_array((len(image), reduction.columns))
    while value != INPUT:
        node = network.node(value)
        match node.op:
            case Affine(weight):
                if node.source == INPUT:
                    return INPUT, weights, found
                weights = csr_array(weights @ csr_array(weight))
            case Relu() if weights.nnz <= SPARSE * weights.shape[0] * node.size:
                gate, entries = relu_gate_of(part, value), weights.tocoo()
                at = (entries.col, image[entries.row])
                passed = entries.data * (gate.state[at] == OPEN)
                shape = weights.shape
                capped = csr_array((passed * gate.cap[at], (entries.row, entries.col)), shape=shape)
                found = found + padded(csr_array(capped @ reduction.spread[value].T), reduction.columns)
                if value in part.waiting:
                    column = part.waiting[value].column[at]
                    own = column >= 0
                    cells = (entries.row[own], column[own])
                    found = found + csr_array((entries.data[own], cells), shape=found.shape)
                weights = csr_array((passed, (entries.row, entries.col)), shape=shape)
                weights.eliminate_zeros()
            case _:
                break
        value = node.source
    return value, weights, csr_array(found)
