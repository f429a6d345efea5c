"""A network embedded in a linopy model computes what it computes, and a pruned one costs less."""

from __future__ import annotations

import itertools
from pathlib import Path

import linopy
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import nn
from xarray import DataArray

from formulation import Network, embed, lower
from formulation.network import INPUT, Affine, Array, MaxPool, Node, Relu
from tests.formulation.embedded import CASES, CLOSE, INPUTS, binaries, boxed, chain, largest_first
from tests.formulation.oracles import repeatable

ROOT = Path(__file__).resolve().parents[2]


def masks_of(network: Network, rng: np.random.Generator, keep: float) -> dict[str, Array]:
    return {name: (rng.random(count) < keep).astype(float) for name, count in network.units.items()}


@repeatable
@given(
    case=st.sampled_from(sorted(CASES)), seed=st.integers(0, 10_000), width=st.sampled_from([0.0, 0.1, 2.0]),
    keep=st.sampled_from([0.4, 0.8, 1.0]), by_bounds=st.booleans(),
)  # fmt: skip
def test_at_a_fixed_input_the_outputs_are_the_networks(case, seed, width, keep, by_bounds):
    network, rng = CASES[case](seed), np.random.default_rng(seed)
    masks = masks_of(network, rng, keep)
    at = rng.uniform(-1, 1, INPUTS)
    model = linopy.Model()
    coords = [("x", np.arange(INPUTS))]
    spread = np.zeros(INPUTS) if by_bounds else np.full(INPUTS, width)
    x = model.add_variables(DataArray(at - spread, coords=coords), DataArray(at + spread, coords=coords), name="x")
    outputs = embed(model, network, x, masks=masks)
    model.add_constraints(x == DataArray(at, coords=coords), name="fixed")
    largest_first(model, outputs, weight=rng.normal(size=network.classes))
    np.testing.assert_allclose(outputs.solution.values, network.evaluate(at[:, None], masks)[:, 0], atol=CLOSE)
    if by_bounds:
        assert binaries(model) == 0


def test_the_optimum_over_a_box_is_that_of_all_activation_patterns():
    for seed in range(4):
        network = chain(seed, hidden=(4, 3), outputs=1)
        model, x = boxed()
        assert largest_first(model, embed(model, network, x)) == pytest.approx(best_of_all_patterns(network), abs=CLOSE)


def best_of_all_patterns(network: Network) -> float:
    """The largest output over [-1, 1]^n: one linear program per pattern of active and inactive units."""
    first, second, last = (node.op for node in network.nodes if isinstance(node.op, Affine))
    sizes = (len(first.bias), len(second.bias))
    best = -np.inf
    for bits in itertools.product((0.0, 1.0), repeat=sum(sizes)):
        z1, z2 = np.array(bits[: sizes[0]]), np.array(bits[sizes[0] :])
        w2, b2 = second.weight @ (z1[:, None] * first.weight), second.weight @ (z1 * first.bias) + second.bias
        w3, b3 = last.weight @ (z2[:, None] * w2), last.weight @ (z2 * b2) + last.bias
        signs = np.concatenate([1 - 2 * z1, 1 - 2 * z2])  # open: -y <= 0, closed: y <= 0
        rows = signs[:, None] * np.vstack([first.weight, w2])
        found = linprog(-w3[0], rows, -signs * np.concatenate([first.bias, b2]), bounds=(-1, 1))
        if found.status == 0:
            best = max(best, b3[0] - found.fun)
    return best


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)], (4,)),
        ([nn.Conv2d(1, 2, 2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 3)], (1, 3, 3)),
    ],
)
def test_a_torch_module_is_embedded_through_lower(layers, shape):
    torch.manual_seed(0)
    module, image = nn.Sequential(*layers).double().eval(), torch.rand(shape, dtype=torch.float64)
    network = lower(module, image[None])
    model, x = boxed(0.0, 1.0, image.numel())
    outputs = embed(model, network, x)
    model.add_constraints(x == DataArray(image.numpy().ravel(), coords=x.labels.coords), name="fixed")
    largest_first(model, outputs)
    np.testing.assert_allclose(outputs.solution.values, module(image[None])[0].detach().numpy(), atol=CLOSE)


@pytest.mark.parametrize("case", sorted(CASES))
def test_the_optimum_is_reached_by_the_network_itself_and_beaten_by_no_sample(case):
    for seed in range(3):
        network = CASES[case](seed)
        model, x = boxed()
        best = largest_first(model, embed(model, network, x))
        reached = network.evaluate(x.solution.values[:, None])[0, 0]
        samples = np.random.default_rng(seed).uniform(-1, 1, (INPUTS, 5000))
        assert reached == pytest.approx(best, abs=CLOSE)
        assert network.evaluate(samples)[0].max() <= best + CLOSE


def test_a_pruned_network_has_fewer_binaries_and_the_optimum_of_the_one_with_zeroed_weights():
    network = chain(0, hidden=(8, 6))
    masks = {"fc0": np.array([1, 1, 0, 0, 1, 0, 1, 1]), "fc1": np.array([True, False, True, True, False, True])}
    whole, masked, zeroed = (boxed() for _ in range(3))
    embed(*reordered(whole, network))
    first = embed(*reordered(masked, network), masks=masks)
    second = embed(*reordered(zeroed, without(network, masks)))
    assert binaries(masked[0]) == binaries(zeroed[0]) < binaries(whole[0])
    assert binaries(whole[0]) - binaries(masked[0]) >= 5 - 1
    assert largest_first(masked[0], first) == pytest.approx(largest_first(zeroed[0], second), abs=CLOSE)


def reordered(made: tuple[linopy.Model, linopy.Variable], network: Network) -> tuple:
    return made[0], network, made[1]


def without(network: Network, masks: dict[str, Array]) -> Network:
    """Removed units' incoming weights and biases are 0, as training.pruning leaves them."""
    nodes = []
    for node in network.nodes:
        if node.name in masks:
            kept = np.asarray(masks[node.name], dtype=float)
            node = Node(node.name, Affine(node.op.weight * kept[:, None], node.op.bias * kept), node.sources, node.size)
        nodes.append(node)
    return Network(tuple(nodes), network.layers, network.inputs)


def test_stable_relus_get_no_binary():
    weight = np.array([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    nodes = (
        Node("y", Affine(weight, np.array([2.0, -2.0, 0.0])), (INPUT,), 3),
        Node("h", Relu(np.full(3, -1)), ("y",), 3),
        Node("out", Affine(np.eye(3), np.zeros(3)), ("h",), 3),
    )
    model, x = boxed(size=2)
    outputs = embed(model, Network(nodes, (), 2), x)
    assert model.variables["network_open_h"].indexes["network_h"].tolist() == [2]
    assert outputs.lower.values == pytest.approx([1, 0, 0])
    assert outputs.upper.values == pytest.approx([3, 0, 1])


def test_a_window_with_one_possible_maximum_gets_no_binary():
    """Over x in [-1, 1]: x + 3 always beats x; x and -x do not beat each other."""
    nodes = (
        Node("y", Affine(np.array([[1.0], [1.0], [-1.0]]), np.array([3.0, 0.0, 0.0])), (INPUT,), 3),
        Node("pool", MaxPool(np.array([[0, 1], [1, 2]])), ("y",), 2),
    )
    model, x = boxed(size=1)
    outputs = embed(model, Network(nodes, (), 1), x)
    assert model.variables["network_largest_pool"].indexes["network_pool"].tolist() == [1]
    assert binaries(model) == 2
    assert largest_first(model, outputs, weight=np.array([0.0, -1.0])) == pytest.approx(0.0, abs=CLOSE)


def test_bounds_follow_the_form_and_not_the_layers():
    """x - x is 0, though layer after layer it is anything in [-2, 2]."""
    nodes = (
        Node("twice", Affine(np.array([[1.0], [1.0]]), np.array([5.0, 5.0])), (INPUT,), 2),
        Node("pass", Relu(np.full(2, -1)), ("twice",), 2),
        Node("difference", Affine(np.array([[1.0, -1.0]]), np.zeros(1)), ("pass",), 1),
        Node("relu", Relu(np.full(1, -1)), ("difference",), 1),
    )
    model, x = boxed(size=1)
    embed(model, Network(nodes, (), 1), x)
    assert binaries(model) == 0
