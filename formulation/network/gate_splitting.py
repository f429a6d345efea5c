"""Channel gates as ReLUs: s y = s relu(y) - s relu(-y), for gate semantics that know no other gate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array, eye_array, hstack, vstack

from formulation.network.dag import Network, Node
from formulation.network.operations import Affine, ChannelGate, Relu


def with_relu_gates(network: Network) -> Network:
    """The same network with two gated ReLUs in place of each channel gate: the positive part and the negative one.

    Both parts have the score of their activation, so the values are the same at every score in [0, 1]. The gate keeps
    its name; the parts are `<name>.signs` and `<name>.parts`.

    Args:
        network: returned as it is where it has no channel gate.
    """
    if not any(isinstance(node.op, ChannelGate) for node in network.nodes):
        return network
    return replace(network, nodes=tuple(part for node in network.nodes for part in _parts(node)))


def _parts(node: Node) -> Iterator[Node]:
    if not isinstance(node.op, ChannelGate):
        yield node
        return
    size, (signs, parts) = node.size, (f"{node.name}.signs", f"{node.name}.parts")
    same = csr_array(eye_array(size))
    yield Node(signs, Affine(csr_array(vstack([same, -same])), np.zeros(2 * size)), node.sources, 2 * size)
    yield Node(parts, Relu(np.tile(node.op.score, 2)), (signs,), 2 * size)
    yield Node(node.name, Affine(csr_array(hstack([same, -same])), np.zeros(size)), (parts,), size)
