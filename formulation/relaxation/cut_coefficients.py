"""Coefficients of what a gated node reads, and of its cuts: sparse as long as few activations carry a weight.

A single activation reads few others through a convolution, so its weights are sent backwards one by one until too many
carry one; from there on the dense pass of `propagation.backward` is cheaper, in blocks of cuts that fit into memory.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array, vstack

from formulation.network import INPUT, Affine, ChannelGate, Index, MaxPool, Network, Relu
from formulation.relaxation.cuts import padded
from formulation.relaxation.gates import ACTIVE
from formulation.relaxation.propagation import backward
from formulation.relaxation.reduction import ReducedBatch, Reduction, pool_gate_of, relu_gate_of

SPARSE = 0.3  # share of weights up to which a pass stays on sparse ones
CUT_NUMBERS = 2**23  # cuts times activations propagated backwards at once


def coefficients_of_cuts(reduction: Reduction, batch: ReducedBatch, name: str, index: tuple[Index, ...]) -> csr_array:
    """Coefficients of the cuts of a gated node, one row per cut.

    The form of a ReLU's cut is h where it is active and y elsewhere, that of a max-pool's window h_pick - h_j.

    Args:
        reduction: the scoring set in score space.
        batch: the batch of it that the cuts are of.
        name: the gated node's.
        index: [k] each, into the gate's `lower`, the image within the batch last.

    Returns:
        [k, columns].
    """
    node, each = reduction.network.node(name), np.arange(len(index[0]))
    if isinstance(node.op, MaxPool):
        plus, minus = picked_inputs(batch, reduction.network, name, index)
        weights = csr_array((np.ones(len(each)), (each, plus)), shape=(len(each), reduction.network.size(node.source)))
        weights = weights - csr_array((np.ones(len(each)), (each, minus)), shape=weights.shape)
        return read_coefficients(reduction, batch, name, csr_array(weights), index[-1])
    gate = relu_gate_of(batch, name)
    chosen = (index[0], index[-1])
    cap = np.where(gate.state[chosen] == ACTIVE, gate.cap[chosen], 0.0)
    own = csr_array((cap, (each, index[0])), shape=(len(each), node.size)) @ reduction.spread[name].T
    weights = csr_array((np.ones(len(each)), (each, index[0])), shape=(len(each), node.size))
    return read_coefficients(reduction, batch, name, weights, index[-1], csr_array(own))


def picked_inputs(batch: ReducedBatch, network: Network, name: str, index: tuple[Index, ...]) -> tuple[Index, Index]:
    """The inputs whose difference is the form of a max-pool's cuts.

    Args:
        batch: of the scoring set.
        network: the lowered one.
        name: the max-pool's.
        index: [k] each: output, member of its window, and image within the batch.

    Returns:
        The picked input and the other one, [k] each, positions in what the max-pool reads.
    """
    op = network.node(name).op
    assert isinstance(op, MaxPool)
    window, each = op.windows[index[0]], np.arange(len(index[0]))
    return window[each, pool_gate_of(batch, name).pick[index[0], index[-1]]], window[each, index[1]]


def read_coefficients(
    reduction: Reduction,
    batch: ReducedBatch,
    name: str,
    weights: csr_array,
    image: Index,
    direct: csr_array | None = None,
) -> csr_array:
    """Coefficients of weighted sums of what a node reads.

    Args:
        reduction: the scoring set in score space.
        batch: the batch of it.
        name: the node's.
        weights: [k, activations], of what the node reads.
        image: [k], the image within the batch that each sum is about.
        direct: [k, scores], coefficients that the sums have on the scores besides.

    Returns:
        [k, columns].
    """
    value, weights, own = _while_sparse(reduction, batch, reduction.network.node(name).source, weights, image)
    if direct is not None:
        own = own + padded(csr_array(direct), reduction.columns)
    if value == INPUT or not weights.nnz:
        return own
    at_once = cuts_at_once(reduction.network)
    blocks = []
    for start in range(0, len(image), at_once):
        some = slice(start, start + at_once)
        blocks.append(backward(reduction, batch, {value: weights[some].T.toarray(order="C")}, image[some]))
    return csr_array(vstack(blocks, format="csr") + own)


def cuts_at_once(network: Network) -> int:
    """How many cuts are propagated backwards at once: as many as fit into memory."""
    return max(1, CUT_NUMBERS // max(node.size for node in network.nodes))


def _while_sparse(
    reduction: Reduction, batch: ReducedBatch, value: str, weights: csr_array, image: Index
) -> tuple[str, csr_array, csr_array]:
    """A backward pass on sparse weights [k, activations] as far as they stay sparse: a single activation reads few.

    Returns:
        The value that the pass has reached, the weights there, and the coefficients met on the way, [k, columns].
    """
    network, found = reduction.network, csr_array((len(image), reduction.columns))
    while value != INPUT:
        node = network.node(value)
        match node.op:
            case Affine(weight):
                if node.source == INPUT:
                    return INPUT, weights, found
                weights = csr_array(weights @ csr_array(weight))
            case Relu() | ChannelGate() if weights.nnz <= SPARSE * weights.shape[0] * node.size:
                gate, entries = relu_gate_of(batch, value), weights.tocoo()
                at = (entries.col, image[entries.row])
                passed = entries.data * (gate.state[at] == ACTIVE)
                shape = weights.shape
                capped = csr_array((passed * gate.cap[at], (entries.row, entries.col)), shape=shape)
                found = found + padded(csr_array(capped @ reduction.spread[value].T), reduction.columns)
                if value in batch.unstable:
                    column = batch.unstable[value].map((node.size, batch.images))[at]
                    own = column >= 0
                    cells = (entries.row[own], column[own])
                    found = found + csr_array((entries.data[own], cells), shape=found.shape)
                weights = csr_array((passed, (entries.row, entries.col)), shape=shape)
                weights.eliminate_zeros()
            case _:
                break
        value = node.source
    return value, weights, csr_array(found)
