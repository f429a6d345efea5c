"""The layer terms, and the sum of the largest as a linear program against sorting and against every subset."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from linopy import Model

from formulation import Layer, Network
from formulation.network import Affine, Node
from formulation.relaxation.sparsity import counted, layer_weight, preference, sparsity, terms
from formulation.solve.constraints import add_sparsity, costs_of
from tests.formulation.oracles import largest_sum, repeatable


def network_of(units: list[int], kernels: list[int]) -> Network:
    layers = tuple(Layer(f"l{k}", u, kernel) for k, (u, kernel) in enumerate(zip(units, kernels, strict=True)))
    return Network((Node("out", Affine(np.ones((1, 1)), np.zeros(1)), ("input",), 1),), layers, 1)


def test_layer_weights_by_hand() -> None:
    network = network_of([6, 120], [25, 1])
    conv, dense = network.layers
    assert [layer_weight(network, conv, w) for w in ("units", "kernel", "network", "total")] == [6, 150, 126, 126]
    assert [layer_weight(network, dense, w) for w in ("units", "kernel", "network", "total")] == [120, 120, 126, 126]


def test_terms_by_hand() -> None:
    network = network_of([2, 4], [9, 1])
    scores = np.array([1, 0, 1, 1, 0.5, 0])
    np.testing.assert_allclose(terms(network, scores, "units"), [-3 / 2, -5.5 / 4])
    np.testing.assert_allclose(terms(network, scores, "kernel"), [-3 / 18, -5.5 / 4])
    np.testing.assert_allclose(terms(network, scores, "network"), [-3 / 6, -5.5 / 6])
    assert sparsity(network, scores, "units") == pytest.approx(-5.5 / 4)  # the largest 1 of 2
    assert sparsity(network, scores, "kernel") == pytest.approx(-3 / 18)


@pytest.mark.parametrize(("layers", "summed"), [(1, 1), (2, 1), (3, 2), (5, 4)])
def test_all_but_one_of_the_terms_are_summed_and_one_where_there_is_one(layers: int, summed: int) -> None:
    network = network_of([2] * layers, [1] * layers)
    assert counted(network, "units") == summed
    assert counted(network, "total") == layers


@repeatable
@given(
    shape=st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9)), min_size=1, max_size=5),
    seed=st.integers(0, 10_000), weight=st.sampled_from(["units", "kernel", "network", "total"]),
)  # fmt: skip
def test_sorting_equals_trying_every_subset(shape, seed, weight):
    network = network_of([u for u, _ in shape], [k for _, k in shape])
    scores = np.random.default_rng(seed).random(sum(u for u, _ in shape))
    named = dict(enumerate(terms(network, scores, weight)))
    assert sparsity(network, scores, weight) == pytest.approx(largest_sum(named, counted(network, weight)), abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_the_linear_program_equals_sorting(seed: int) -> None:
    rng = np.random.default_rng(seed)
    units = rng.integers(1, 5, size=1 + seed % 5).tolist()
    network = network_of(units, rng.integers(1, 9, size=len(units)).tolist())
    scores = rng.random(sum(units))
    weight = ("units", "kernel", "network", "total")[seed % 4]
    model = Model()
    for name, where in network.score_slices.items():
        fixed = scores[where]
        model.add_variables(fixed, fixed, coords=[(name, np.arange(len(fixed)))], name=f"score_{name}")
    model.add_objective(costs_of(model, *add_sparsity(model, network, weight)), sense="min")
    model.solve(solver_name="highs", output_flag=False, progress=False)
    assert model.objective.value == pytest.approx(sparsity(network, scores, weight), abs=1e-7)


def test_of_tied_units_the_first_is_the_cheapest_to_keep_and_all_together_cost_less_than_the_gap() -> None:
    network = network_of([4, 1, 6], [9, 1, 1])
    for gap in (1e-4, 1e-7):
        costs = preference(network, gap)
        assert (costs > 0).all()
        assert costs.sum() < gap
        for where in network.score_slices.values():
            assert (np.diff(costs[where]) > 0).all()
