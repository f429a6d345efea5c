"""The network as the program sees it: a hand-drawn one evaluates to hand-computed numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array

from formulation import Layer, Network
from formulation.network import INPUT, Add, Affine, MaxPool, Node, Relu, Shift


def drawn(sparse: bool = False) -> Network:
    """y1 = x1 - x2, y2 = x2; h = relu(y); o1 = h1 + 2 h2 + 1, o2 = -h2."""
    first = np.array([[1.0, -1.0], [0.0, 1.0]])
    second = np.array([[1.0, 2.0], [0.0, -1.0]])
    weights = [csr_array(first), csr_array(second)] if sparse else [first, second]
    nodes = (
        Node("fc", Affine(weights[0], np.zeros(2)), (INPUT,), 2),
        Node("relu", Relu(np.arange(2)), ("fc",), 2),
        Node("out", Affine(weights[1], np.array([1.0, 0.0])), ("relu",), 2),
    )
    return Network(nodes, (Layer("fc", 2, 1),), 2)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_hand_drawn_network_evaluates_by_hand(sparse: bool) -> None:
    pixels = np.array([[3.0, 0.0], [1.0, 2.0]])
    np.testing.assert_allclose(drawn(sparse).evaluate(pixels), [[2 + 2 + 1, 0 + 4 + 1], [-1, -2]])


def test_a_masked_unit_emits_0() -> None:
    pixels = np.array([[3.0], [1.0]])
    np.testing.assert_allclose(drawn().evaluate(pixels, {"fc": [0.0, 1.0]}), [[3], [-1]])
    np.testing.assert_allclose(drawn().evaluate(pixels, {"fc": np.array([True, False])}), [[3], [0]])


def branched() -> Network:
    """h = relu(x) of which the score 0 acts on x1 alone; k = h + (1, 2) s; o = (max(k1, k2), k2) + h."""
    nodes = (
        Node("relu", Relu(np.array([0, -1])), (INPUT,), 2),
        Node("shift", Shift(np.array([0, -1]), np.array([1.0, 2.0])), ("relu",), 2),
        Node("pool", MaxPool(np.array([[0, 1], [1, -1]])), ("shift",), 2),
        Node("out", Add(), ("pool", "relu"), 2),
    )
    return Network(nodes, (Layer("fc", 1, 1),), 2)


def test_pools_sums_and_shifts_evaluate_by_hand() -> None:
    pixels = np.array([[3.0, -1.0], [1.0, -5.0]])
    np.testing.assert_array_equal(branched().evaluate(pixels), [[4 + 3, 2 + 0], [3 + 1, 2 + 0]])


def test_a_removed_unit_emits_neither_itself_nor_the_constant_behind_it() -> None:
    pixels = np.array([[3.0], [1.0]])
    np.testing.assert_array_equal(branched().evaluate(pixels, {"fc": [0.0]}), [[3 + 0], [3 + 1]])


def test_scores_are_stacked_in_layer_order_and_come_back() -> None:
    nodes = drawn().nodes
    network = Network(nodes, (Layer("b", 2, 1), Layer("a", 3, 1)), 2)
    vector = network.stack({"a": np.array([3.0, 4.0, 5.0]), "b": np.array([1.0, 2.0])})
    np.testing.assert_array_equal(vector, [1, 2, 3, 4, 5])
    assert {name: values.tolist() for name, values in network.unstack(vector).items()} == {"b": [1, 2], "a": [3, 4, 5]}
    assert network.units == {"b": 2, "a": 3}


def test_the_digest_follows_structure_and_weights() -> None:
    first = drawn()
    assert first.digest() == drawn().digest()
    gated_otherwise = Network(
        (first.nodes[0], Node("relu", Relu(np.array([1, 0])), ("fc",), 2), first.nodes[2]), first.layers, 2
    )
    other_bias = Network(
        (*first.nodes[:2], Node("out", Affine(first.nodes[2].op.weight, np.zeros(2)), ("relu",), 2)), first.layers, 2
    )
    assert len({network.digest() for network in (first, gated_otherwise, other_bias)}) == 3


def changed(name: str, op: object = None, sources: tuple[str, ...] = ()) -> Network:
    """`branched` with one node changed."""
    whole = branched()
    nodes = [replace(n, op=op or n.op, sources=sources or n.sources) if n.name == name else n for n in whole.nodes]
    return Network(tuple(nodes), whole.layers, 2)


def test_the_digest_follows_windows_shifts_and_what_reads_what() -> None:
    networks = [
        branched(),
        changed("pool", MaxPool(np.array([[0, 1], [0, -1]]))),
        changed("shift", Shift(np.array([0, -1]), np.array([1.0, 2.5]))),
        changed("shift", Shift(np.array([0, 0]), np.array([1.0, 2.0]))),
        changed("out", sources=("pool", "shift")),
        changed("out", sources=("pool", "relu", "relu")),
        Network(branched().nodes, (Layer("other", 1, 1),), 2),
    ]
    assert len({network.digest() for network in networks}) == len(networks)
