"""Jacobians that are held give what passes give, and are left out where they would not pay or not fit."""

from __future__ import annotations

import numpy as np
import pytest

from formulation import TimeLimitReached
from formulation.deadline import Deadline
from formulation.network import INPUT
from formulation.relaxation import backward, backward_in_all, forward, with_jacobians
from formulation.relaxation.jacobians import effects_of, own_units, split_maps
from formulation.relaxation.propagation import backward_to_scores
from tests.formulation.cases import SMALL, conv_pool, dense, max_pooled
from tests.formulation.paper_settings import paper_settings

LINEAR = paper_settings(gate="linear", radius=0)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_values_and_coefficients_are_those_of_passes(name: str) -> None:
    passes = SMALL[name](5).reduction(LINEAR)
    held, rng = with_jacobians(passes), np.random.default_rng(0)
    point, last = rng.random(passes.columns), passes.network.nodes[-1].name
    for plain, product in zip(passes.batches, held.batches, strict=True):
        assert product.first_order is not None
        np.testing.assert_allclose(
            forward(held, product, point).logits, forward(passes, plain, point).logits, atol=1e-12
        )
        image = rng.integers(plain.images, size=5)
        for chosen in (image, np.arange(plain.images)):
            weights = rng.normal(size=(passes.network.classes, len(chosen)))
            found, expected = (
                backward(which, batch, {last: weights.copy()}, chosen).toarray()
                for which, batch in ((held, product), (passes, plain))
            )
            np.testing.assert_allclose(found, expected, atol=1e-12)
        weights = rng.normal(size=(passes.network.classes, plain.images))
        summed = [
            backward_in_all(which, each, {last: weights.copy()}) for which, each in ((held, product), (passes, plain))
        ]
        np.testing.assert_allclose(*summed, atol=1e-12)
        np.testing.assert_allclose(
            summed[1], backward(passes, plain, {last: weights}, np.arange(plain.images)).sum(axis=0), atol=1e-12
        )


@pytest.mark.parametrize("name", sorted(SMALL))
def test_pattern_holds_its_logits_beside_the_gates_that_its_cuts_need(name: str) -> None:
    passes = SMALL[name](5).reduction(paper_settings(gate="pattern", radius=0))
    held, rng = with_jacobians(passes), np.random.default_rng(0)
    point, last = rng.random(passes.columns), passes.network.nodes[-1].name
    for plain, product in zip(passes.batches, held.batches, strict=True):
        assert product.first_order is not None
        assert product.gates is plain.gates
        found, expected = (forward(which, batch, point) for which, batch in ((held, product), (passes, plain)))
        np.testing.assert_allclose(found.logits, expected.logits, atol=1e-12)
        assert set(found.cut_values) == set(expected.cut_values)
        np.testing.assert_allclose(product.first_order.at(point), expected.logits, atol=1e-12)
        weights, each = rng.normal(size=(passes.network.classes, plain.images)), np.arange(plain.images)
        coefficients = backward(passes, plain, {last: weights.copy()}, each).toarray()
        np.testing.assert_allclose(backward(held, product, {last: weights}, each).toarray(), coefficients, atol=1e-12)


def test_they_are_held_for_no_other_gate_and_only_where_they_fit_and_pay() -> None:
    case = dense()
    published = case.reduction(paper_settings(radius=0.1))
    assert with_jacobians(published) is published
    passing = case.reduction(paper_settings(gate="pattern", radius=0), kept_numbers=0)
    assert with_jacobians(passing) is passing
    linear = case.reduction(LINEAR)
    numbers = linear.network.classes * linear.scores * linear.images
    assert with_jacobians(linear, held_numbers=numbers - 1) is linear
    assert with_jacobians(linear, most_classes=linear.network.classes - 1) is linear
    assert with_jacobians(linear, held_numbers=numbers) is not linear


def test_none_is_begun_behind_the_deadline() -> None:
    with pytest.raises(TimeLimitReached, match="derivatives of image 1"):
        with_jacobians(dense().reduction(LINEAR), deadline=Deadline.after(0.0))


@pytest.mark.parametrize("make", [conv_pool, max_pooled])
def test_a_pool_of_a_first_layers_units_still_has_one_unit_an_activation(make) -> None:
    network = make(3).reduction(LINEAR).network
    own = own_units(network)
    assert own
    for name, units in own.items():
        assert len(units) == network.size(name)
        assert network.node(name).source != INPUT
    first = next(node for node in network.nodes if node.name in own)
    assert own[first.name] is first.op.score


@pytest.mark.parametrize("name", sorted(SMALL))
def test_weights_sent_back_to_split_maps_give_the_coefficients_of_a_whole_pass(name: str) -> None:
    reduction = SMALL[name](5).reduction(LINEAR)
    network, last = reduction.network, reduction.network.nodes[-1].name
    split, rng = split_maps(network, reduction.largest_batch), np.random.default_rng(1)
    for batch in reduction.batches:
        weights, each = rng.normal(size=(network.classes, batch.images)), np.arange(batch.images)
        expected = backward(reduction, batch, {last: weights.copy()}, each).toarray()
        found = backward_to_scores(reduction, batch, {last: weights.copy()}, effects_of(network, split, batch))
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_some_small_networks_have_a_map_that_is_split() -> None:
    found = [split_maps(make(2).reduction(LINEAR).network, 2) for make in SMALL.values()]
    assert sum(map(bool, found)) >= 2
