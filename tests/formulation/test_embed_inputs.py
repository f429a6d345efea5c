"""Inputs of an embedding, and what is refused before anything is added."""

from __future__ import annotations

import linopy
import numpy as np
import pytest
from xarray import DataArray

from formulation import InvalidBounds, InvalidEmbedding, InvalidModel, Network, embed
from formulation.network import INPUT, Affine, Node, Relu
from tests.formulation.embedded import CLOSE, INPUTS, binaries, boxed, chain, largest_first, solve


def test_expressions_and_arrays_of_more_dimensions_are_inputs_too():
    network, at = chain(3), np.array([[0.3, -0.2], [0.7, 0.1]])
    model = linopy.Model()
    coords = [("row", ["a", "b"]), ("column", [7, 9])]
    z = model.add_variables(-2, 2, coords=coords, name="z")
    outputs = embed(model, network, 0.5 * z - 0.1, name="net")
    model.add_constraints(z == DataArray(2 * at + 0.2, coords=coords), name="fixed")
    largest_first(model, outputs)
    np.testing.assert_allclose(outputs.solution.values, network.evaluate(at.reshape(-1, 1))[:, 0], atol=CLOSE)
    assert outputs.dims == ("net_output",)


def test_a_semi_continuous_input_may_be_0():
    """x = 0 or 1 <= x <= 2, and y = x - 0.5: negative at 0 only."""
    nodes = (Node("y", Affine(np.eye(1), np.full(1, -0.5)), (INPUT,), 1), Node("h", Relu(np.full(1, -1)), ("y",), 1))
    model = linopy.Model()
    x = model.add_variables(1.0, 2.0, coords=[("x", [0])], name="x", semi_continuous=True)
    outputs = embed(model, Network(nodes, (), 1), x)
    assert binaries(model) == 1
    assert outputs.lower.values == pytest.approx([0.0])


def test_two_networks_share_a_model_under_two_names():
    model, x = boxed()
    first, second = embed(model, chain(1), x, name="one"), embed(model, chain(2), x, name="two")
    model.add_objective(first.sum() - second.sum(), sense="max")
    solve(model)
    for seed, outputs in ((1, first), (2, second)):
        np.testing.assert_allclose(
            outputs.solution.values, chain(seed).evaluate(x.solution.values[:, None])[:, 0], atol=CLOSE
        )


def absent(model: linopy.Model) -> linopy.Variable:
    there = DataArray([True, True, True, False], coords=[("y", np.arange(INPUTS))])
    return model.add_variables(0, 1, coords=[("y", np.arange(INPUTS))], name="y", mask=there)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"masks": {"fc9": np.ones(5)}}, InvalidEmbedding, "mask for 'fc9'.*fc0, fc1"),
        ({"masks": {"fc0": np.ones(4)}}, InvalidEmbedding, "mask for 'fc0' must hold 5 values"),
        ({"masks": {"fc0": np.full(5, 0.5)}}, InvalidEmbedding, "0 or 1"),
        ({"inputs": lambda m: m.add_variables(0, 1, coords=[("y", np.arange(3))], name="y")}, InvalidEmbedding, "3 el"),
        ({"inputs": absent}, InvalidEmbedding, "absent"),
        ({"inputs": lambda m: boxed()[1]}, InvalidEmbedding, "another linopy model"),
        ({"inputs": lambda m: np.ones(INPUTS)}, InvalidEmbedding, "inputs are ndarray"),
        ({"inputs": lambda m: m.add_variables(coords=[("y", np.arange(4))], name="y")}, InvalidBounds, "'y'.*bounds"),
        ({"network": "fc"}, InvalidEmbedding, "formulation.lower"),
        ({"network": chain(0, hidden=(2,)), "spoil": np.nan}, InvalidModel, "'fc0' has weights"),
        ({"network": chain(0, hidden=(2,)), "spoil": 1e308}, InvalidBounds, "'relu0'"),
        ({"masks": [1, 1]}, InvalidEmbedding, "masks is list; give the kept units by layer"),
        ({"masks": np.ones(5)}, InvalidEmbedding, "masks is ndarray"),
        ({"masks": []}, InvalidEmbedding, "masks is list"),
        ({"masks": {"fc0": ["a"] * 5}}, InvalidEmbedding, "mask for 'fc0' must hold 5 values"),
        ({"masks": {"fc0": [[1], [1, 0], 1, 1, 1]}}, InvalidEmbedding, "mask for 'fc0' must hold 5 values"),
        ({"masks": {"fc0": None}}, InvalidEmbedding, "mask for 'fc0' must hold 5 values"),
        ({"masks": {"fc0": [1j] * 5}}, InvalidEmbedding, "mask for 'fc0' must hold 5 values"),
        ({"name": None}, InvalidEmbedding, "name=None is no name"),
        ({"name": ""}, InvalidEmbedding, "name='' is no name"),
        ({"name": "taken"}, InvalidEmbedding, "'taken_output'"),
    ],
)  # fmt: skip
def test_what_cannot_be_embedded_is_refused_before_anything_is_added(arguments, error, words):
    model, x = boxed()
    model.add_constraints(x.sum() <= 1, name="taken_output")
    inputs = arguments["inputs"](model) if "inputs" in arguments else x
    network = arguments.get("network", chain(0))
    if "spoil" in arguments:
        network.nodes[0].op.weight[0] = arguments["spoil"]
    before = set(model.variables), set(model.constraints)
    with pytest.raises(error, match=words) as raised:
        embed(model, network, inputs, masks=arguments.get("masks"), name=arguments.get("name", "network"))
    assert "\n" not in str(raised.value)
    assert (set(model.variables), set(model.constraints)) == before
