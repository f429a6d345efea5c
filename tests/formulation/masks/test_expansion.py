"""First-order expansion: the derivatives of the masked network, by units and by the weights that read them."""

from dataclasses import replace

import numpy as np
import pytest

from formulation import lower
from formulation.masks.inner_problem.expansion import expand
from formulation.network import Affine, Network
from formulation.relaxation import forward
from tests.formulation.cases import Case, conv_pool, dense, strided_grouped
from tests.formulation.masks.planted import expanded
from tests.formulation.paper_settings import paper_settings

CASES = [dense(0, hidden=(6, 5), images=7), conv_pool(1, images=4), strided_grouped(2, images=3)]
STEP = 1e-6


@pytest.mark.parametrize("case", CASES)
def test_around_the_whole_network_it_is_the_linear_gate(case: Case) -> None:
    expansion = expanded(case)
    reduction = case.reduction(paper_settings(gate="linear", radius=0))
    draw = np.random.default_rng(0)
    for _ in range(3):
        scores = draw.random(expansion.units)
        logits = np.hstack([forward(reduction, batch, scores).logits for batch in reduction.batches])
        np.testing.assert_allclose(expansion.logits_at(scores), logits, atol=1e-12)


# a depthwise convolution without a bias reads 0 of a removed unit, where the ReLU behind it has no derivative
@pytest.mark.parametrize("case", CASES[:2])
def test_around_a_mask_it_has_the_masked_logits_and_their_derivatives_by_every_gate(case: Case) -> None:
    network = lower(case.model, case.images)
    mask = (np.random.default_rng(1).random(network.score_count) > 0.4).astype(float)
    expansion = expand(network, case.pixels, mask)
    np.testing.assert_allclose(expansion.logits, network.evaluate(case.pixels, network.unstack(mask)), atol=1e-12)
    np.testing.assert_allclose(expansion.dense, network.evaluate(case.pixels), atol=1e-12)
    for unit in range(expansion.units):
        moved = mask.copy()
        moved[unit] += STEP
        found = (network.evaluate(case.pixels, network.unstack(moved)) - expansion.logits) / STEP
        np.testing.assert_allclose(expansion.slopes[:, unit].reshape(found.shape), found, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_a_change_of_the_reading_weights_moves_the_logits_as_the_reading_says(case: Case) -> None:
    network = lower(case.model, case.images)
    expansion = expand(network, case.pixels)
    draw = np.random.default_rng(2)
    assert expansion.readings
    for reading in expansion.readings:
        change = draw.standard_normal(reading.weight.shape)
        moved = (with_change(network, reading.name, change * STEP).evaluate(case.pixels) - expansion.logits) / STEP
        np.testing.assert_allclose(reading.moved(change), moved, atol=1e-4)
        duals = draw.standard_normal(expansion.logits.shape)
        pulled = float((reading.pulled(duals) * change).sum())
        assert pulled == pytest.approx(float((duals * reading.moved(change)).sum()))


def with_change(network: Network, name: str, change: np.ndarray) -> Network:
    """The network with other weights and constants of a node, all of whose columns units own."""
    nodes = []
    for node in network.nodes:
        if node.name == name:
            assert isinstance(node.op, Affine)
            node = replace(node, op=Affine(node.op.weight + change[:, :-1], node.op.bias + change[:, -1]))
        nodes.append(node)
    return replace(network, nodes=tuple(nodes))


@pytest.mark.parametrize("case", CASES)
def test_what_a_reading_reads_of_a_removed_unit_is_what_it_would_hand_on(case: Case) -> None:
    network = lower(case.model, case.images)
    last = expand(network, case.pixels).readings[-1]
    first = network.score_count - network.layers[-1].units
    mask = np.ones(network.score_count)
    mask[first] = 0.0
    again = expand(network, case.pixels, mask).readings[-1]
    own = last.owner == first
    np.testing.assert_allclose(again.values[own], last.values[own])


def test_images_in_batches_give_the_same_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[1]
    whole = expanded(case)
    monkeypatch.setattr("formulation.masks.inner_problem.expansion.BATCH_NUMBERS", 1)
    parts = expanded(case)
    np.testing.assert_allclose(parts.slopes, whole.slopes)
    for one, other in zip(parts.readings, whole.readings, strict=True):
        np.testing.assert_allclose(one.values, other.values)
        if one.jacobian is not None:
            np.testing.assert_allclose(one.jacobian, other.jacobian)
