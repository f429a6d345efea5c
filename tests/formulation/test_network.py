"""The network as the program sees it: a hand-drawn one evaluates to hand-computed numbers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from formulation import Layer, Network
from formulation.network import INPUT, Affine, Node, Relu


def drawn(sparse: bool = False) -> Network:
    """y1 = x1 - x2, y2 = x2; h = relu(y); o1 = h1 + 2 h2 + 1, o2 = -h2."""
    first = np.array([[1.0, -1.0], [0.0, 1.0]])
    second = np.array([[1.0, 2.0], [0.0, -1.0]])
    weights = [csr_array(first), csr_array(second)] if sparse else [first, second]
    nodes = (
        Node("fc", Affine(weights[0], np.zeros(2)), INPUT, 2),
        Node("relu", Relu("fc", np.arange(2)), "fc", 2),
        Node("out", Affine(weights[1], np.array([1.0, 0.0])), "relu", 2),
    )
    return Network(nodes, (Layer("fc", 2, 1, "relu"),), 2)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_hand_drawn_network_evaluates_by_hand(sparse: bool) -> None:
    pixels = np.array([[3.0, 0.0], [1.0, 2.0]])
    np.testing.assert_allclose(drawn(sparse).evaluate(pixels), [[2 + 2 + 1, 0 + 4 + 1], [-1, -2]])


def test_a_masked_unit_emits_0() -> None:
    pixels = np.array([[3.0], [1.0]])
    np.testing.assert_allclose(drawn().evaluate(pixels, {"fc": [0.0, 1.0]}), [[3], [-1]])
    np.testing.assert_allclose(drawn().evaluate(pixels, {"fc": np.array([True, False])}), [[3], [0]])


def test_scores_are_stacked_in_layer_order_and_come_back() -> None:
    nodes = drawn().nodes
    network = Network(nodes, (Layer("b", 2, 1, "relu"), Layer("a", 3, 1, "relu")), 2)
    vector = network.stack({"a": np.array([3.0, 4.0, 5.0]), "b": np.array([1.0, 2.0])})
    np.testing.assert_array_equal(vector, [1, 2, 3, 4, 5])
    assert {name: values.tolist() for name, values in network.unstack(vector).items()} == {"b": [1, 2], "a": [3, 4, 5]}
    assert network.units == {"b": 2, "a": 3}


def test_the_digest_follows_structure_and_weights() -> None:
    first = drawn()
    assert first.digest() == drawn().digest()
    gated_otherwise = Network(
        (first.nodes[0], Node("relu", Relu("fc", np.array([1, 0])), "fc", 2), first.nodes[2]), first.layers, 2
    )
    other_bias = Network(
        (*first.nodes[:2], Node("out", Affine(first.nodes[2].op.weight, np.zeros(2)), "relu", 2)), first.layers, 2
    )
    assert len({network.digest() for network in (first, gated_otherwise, other_bias)}) == 3
