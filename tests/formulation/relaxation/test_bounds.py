"""Oracle 2: valid bounds hold for every score, nominal ones for the unpruned network, everywhere in the box."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from formulation import InvalidBounds, Layer, Network, lower
from formulation.network import INPUT, Add, Affine, Array, ChannelGate, MaxPool, Node, Relu, Shift
from formulation.relaxation.bounds import Box, input_box, propagate
from tests.formulation.cases import (
    batchnorm_after_relu,
    concatenated,
    conv1d_series,
    conv_pool,
    dense,
    leaky,
    max_pooled,
    moved,
    residual,
    strided_grouped,
    tabular,
)
from tests.formulation.lowering.test_lowering_drawn import drawn_networks
from tests.formulation.oracles import repeatable
from tests.oracles.intervals import interval_bounds

SLACK = 1e-9
CHAINS = {"dense": dense, "pool": conv_pool, "grouped": strided_grouped}
CASES = CHAINS | {
    "residual": residual,
    "leaky": leaky,
    "moved": moved,
    "concatenated": concatenated,
    "max-pooled": max_pooled,
    "series": conv1d_series,
    "tabular": tabular,
    "norm behind the gate": batchnorm_after_relu,
}


def exact_values(network: Network, pixels: Array, scores: dict[str, Array], caps: dict[str, Array]) -> dict[str, Array]:
    """Every node's value where h = max(0, y - (1 - s) u+): the exact gate, fractional scores included."""
    each = np.append(network.stack(scores), 1.0)  # the last where no score acts
    values = {INPUT: pixels}
    for node in network.nodes:
        read = [values[name] for name in node.sources]
        match node.op:
            case Affine():
                made = node.op.apply(*read)
            case Relu(score):
                made = np.maximum(0.0, read[0] - (1 - each[score])[:, None] * caps[node.name])
            case MaxPool(windows):
                made = np.array([read[0][window[window >= 0]].max(axis=0) for window in windows])
            case Add():
                made = sum(read)
            case Shift(score, amount):
                made = read[0] + (each[score] * amount)[:, None]
            case ChannelGate(score):
                made = each[score][:, None] * read[0]
            case _:
                raise AssertionError(f"no rule for {node.op}")
        values[node.name] = made
    return values


@repeatable
@given(
    case=st.sampled_from(sorted(CASES)), seed=st.integers(0, 5), radius=st.sampled_from([0.0, 1e-3, 0.2]),
    draw=st.integers(0, 10_000), whole=st.booleans(), keep=st.floats(0.0, 1.0),
)  # fmt: skip
def test_valid_bounds_hold_for_every_score_vector(case, seed, radius, draw, whole, keep):
    made = CASES[case](seed)
    network = lower(made.model, made.images)
    box = input_box(made.pixels, radius, (0.0, 1.0))
    boxes = propagate(network, box, valid=True)
    caps = {n.name: np.maximum(boxes[n.source].upper, 0) for n in network.nodes if isinstance(n.op, Relu)}
    rng = np.random.default_rng(draw)
    scores = {
        name: (rng.random(units) < keep).astype(float) if whole else rng.random(units)
        for name, units in network.units.items()
    }
    pixels = rng.uniform(box.lower, box.upper) if radius else made.pixels
    values = exact_values(network, pixels, scores, caps)
    for node in network.nodes:
        found = boxes[node.name]
        assert (values[node.name] >= found.lower - SLACK).all(), node.name
        assert (values[node.name] <= found.upper + SLACK).all(), node.name


@repeatable
@given(
    case=st.sampled_from(sorted(CASES)), seed=st.integers(0, 5), radius=st.sampled_from([0.0, 1e-3, 0.2]),
    draw=st.integers(0, 10_000),
)  # fmt: skip
def test_nominal_bounds_hold_for_the_unpruned_network_anywhere_in_the_box(case, seed, radius, draw):
    made = CASES[case](seed)
    network = lower(made.model, made.images)
    box = input_box(made.pixels, radius, (0.0, 1.0))
    boxes = propagate(network, box, valid=False)
    rng = np.random.default_rng(draw)
    corner = np.where(rng.random(box.lower.shape) < 0.5, box.lower, box.upper)
    zeros = {n.name: np.zeros((n.size, 1)) for n in network.nodes}
    ones = {name: np.ones(units) for name, units in network.units.items()}
    for pixels in (corner, rng.uniform(box.lower, np.maximum(box.upper, box.lower))):
        for name, value in exact_values(network, pixels, ones, zeros).items():
            assert (value >= boxes[name].lower - SLACK).all(), name
            assert (value <= boxes[name].upper + SLACK).all(), name


@repeatable
@given(
    drawn=drawn_networks(), radius=st.sampled_from([0.0, 0.1]), seed=st.integers(0, 10_000), valid=st.booleans(),
    whole=st.booleans(),
)  # fmt: skip
def test_bounds_hold_on_any_drawn_network(drawn, radius, seed, valid, whole):
    network = lower(drawn, drawn.images)
    rng = np.random.default_rng(seed)
    centre = drawn.images.flatten(1).numpy().T
    box = Box(centre - radius, centre + radius)
    boxes = propagate(network, box, valid=valid)
    caps = {n.name: np.maximum(boxes[n.source].upper, 0) for n in network.nodes if isinstance(n.op, Relu)}
    scores = {name: rng.random(units) if valid else np.ones(units) for name, units in network.units.items()}
    scores = {name: np.round(s) if whole else s for name, s in scores.items()}
    for name, value in exact_values(network, rng.uniform(box.lower, box.upper), scores, caps).items():
        assert (value >= boxes[name].lower - SLACK).all(), name
        assert (value <= boxes[name].upper + SLACK).all(), name


@pytest.mark.parametrize("valid", [True, False])
@pytest.mark.parametrize("case", sorted(CHAINS))
def test_bounds_equal_plain_interval_arithmetic(case: str, valid: bool) -> None:
    made = CASES[case](1)
    network = lower(made.model, made.images)
    box = input_box(made.pixels, 0.05, (0.0, 1.0))
    boxes = propagate(network, box, valid=valid)
    for i in range(made.pixels.shape[1]):
        plain = interval_bounds(network, box.lower[:, i], box.upper[:, i], valid=valid)
        for node in network.nodes:
            if isinstance(node.op, Relu):
                assert (node.op.score >= 0).all()
                np.testing.assert_allclose(boxes[node.source].lower[:, i], plain[node.name][0], atol=1e-12)
                np.testing.assert_allclose(boxes[node.source].upper[:, i], plain[node.name][1], atol=1e-12)


def test_nominal_bounds_break_for_some_mask_which_is_why_there_are_two_kinds() -> None:
    made = dense(1)
    network = lower(made.model, made.images)
    nominal = propagate(network, Box(made.pixels, made.pixels), valid=False)
    last = network.nodes[-1].name
    rng = np.random.default_rng(0)
    masks = {name: (rng.random(units) < 0.5).astype(float) for name, units in network.units.items()}
    logits = network.evaluate(made.pixels, masks)
    assert (logits < nominal[last].lower - 0.01).any() or (logits > nominal[last].upper + 0.01).any()


def test_valid_bounds_contain_the_nominal_ones() -> None:
    made = conv_pool(2)
    network = lower(made.model, made.images)
    box = input_box(made.pixels, 0.01, (0.0, 1.0))
    nominal, valid = (propagate(network, box, valid=v) for v in (False, True))
    for node in network.nodes:
        assert (valid[node.name].lower <= nominal[node.name].lower + SLACK).all()
        assert (valid[node.name].upper >= nominal[node.name].upper - SLACK).all()


@pytest.mark.parametrize("case", sorted(CASES))
def test_at_radius_0_nominal_bounds_are_the_value_itself(case: str) -> None:
    made = CASES[case](3)
    network = lower(made.model, made.images)
    boxes = propagate(network, Box(made.pixels, made.pixels), valid=False)
    for box in boxes.values():
        np.testing.assert_array_equal(box.lower, box.upper)
    np.testing.assert_array_equal(boxes[network.nodes[-1].name].lower, network.evaluate(made.pixels))


@repeatable
@given(seed=st.integers(0, 1000), exponent=st.integers(-12, 8))
def test_bounds_hold_to_the_last_bit_whatever_the_magnitude(seed, exponent):
    """Without slack: sums round, and the box is widened by as much."""
    rng = np.random.default_rng(seed)
    op = Affine(rng.standard_normal((5, 9)) * 10.0**exponent, rng.standard_normal(5) * 10.0 ** rng.integers(-8, 8))
    network = Network((Node("fc", op, (INPUT,), 5),), (), 9)
    low, width = rng.standard_normal((9, 4)), rng.choice([0.0, 1e-17, 1e-9, 1.0], (9, 4))
    box = propagate(network, Box(low, low + width), valid=True)["fc"]
    widest = 1e-13 * (abs(op.weight) @ np.maximum(abs(low), abs(low + width)) + abs(op.bias)[:, None])
    assert (box.upper - box.lower <= abs(op.weight) @ width + widest).all()
    for corner in (low, low + width, np.where(rng.random(low.shape) < 0.5, low, low + width)):
        value = op.apply(corner)
        assert (box.lower <= value).all()
        assert (value <= box.upper).all()


@pytest.mark.parametrize("sparse", [False, True])
def test_a_bound_of_0_is_0_and_opens_nothing(sparse: bool) -> None:
    """A unit without bias and positive weights, as in a depthwise convolution, stays closed; rounding is no reason."""
    weight = np.array([[-0.3, 0.0, -0.7], [0.3, 0.0, 0.1]])
    op = Affine(csr_array(weight) if sparse else weight, np.zeros(2))
    network = Network((Node("fc", op, (INPUT,), 2),), (), 3)
    box = propagate(network, Box(np.zeros((3, 1)), np.array([[0.1], [0.2], [0.3]])), valid=True)["fc"]
    assert box.upper[0] == 0
    assert box.lower[1] == 0


def test_boxes_of_pools_sums_shifts_and_ungated_relus_by_hand() -> None:
    nodes = (
        Node("relu", Relu(np.array([0, -1])), (INPUT,), 2),
        Node("shift", Shift(np.array([0, -1]), np.array([-3.0, 2.0])), ("relu",), 2),
        Node("pool", MaxPool(np.array([[0, 1], [0, -1]])), ("shift",), 2),
        Node("out", Add(), ("pool", "relu"), 2),
    )
    network = Network(nodes, (Layer("fc", 1, 1),), 2)
    box = Box(np.array([[1.0], [-1.0]]), np.array([[4.0], [5.0]]))
    nominal, valid = (propagate(network, box, valid=v) for v in (False, True))

    def sides(found: Box) -> list[list[float]]:
        return [found.lower.ravel().tolist(), found.upper.ravel().tolist()]

    assert sides(nominal["relu"]) == [[1, 0], [4, 5]]
    assert sides(valid["relu"]) == [[0, 0], [4, 5]]
    assert sides(nominal["shift"]) == [[-2, 2], [1, 7]]
    assert sides(valid["shift"]) == [[-3, 2], [4, 7]]
    assert sides(nominal["pool"]) == [[2, -2], [7, 1]]
    assert sides(valid["pool"]) == [[2, -3], [7, 4]]
    assert sides(nominal["out"]) == [[3, -2], [11, 6]]


def test_no_score_can_close_an_ungated_relu() -> None:
    network = Network((Node("relu", Relu(np.array([-1])), (INPUT,), 1),), (), 1)
    found = propagate(network, Box(np.array([[2.0]]), np.array([[3.0]])), valid=True)["relu"]
    assert (found.lower.item(), found.upper.item()) == (2.0, 3.0)


def test_the_pixels_are_clipped_before_the_radius_is_added() -> None:
    box = input_box(np.array([[0.0], [1.2], [0.5]]), 0.1, (0.0, 1.0))
    np.testing.assert_allclose(box.lower.ravel(), [-0.1, 0.9, 0.4])
    np.testing.assert_allclose(box.upper.ravel(), [0.1, 1.1, 0.6])


def test_at_radius_0_the_box_is_the_pixels_themselves() -> None:
    pixels = np.array([[-3.0], [7.0]])
    box = input_box(pixels, 0.0, (0.0, 1.0))
    np.testing.assert_array_equal(box.lower, pixels)
    np.testing.assert_array_equal(box.upper, pixels)


def test_bounds_that_overflow_are_refused_by_the_layers_name() -> None:
    huge = Affine(np.full((1, 1), 1e200), np.zeros(1))
    network = Network((Node("first", huge, (INPUT,), 1), Node("second", huge, ("first",), 1)), (), 1)
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(InvalidBounds, match=r"'second' are not finite"):
        propagate(network, Box(np.ones((1, 1)), np.ones((1, 1))), valid=False)


def test_inverted_bounds_are_refused() -> None:
    with pytest.raises(InvalidBounds, match="'fc' are inverted by 1"):
        Box(np.array([[1.0]]), np.array([[0.0]])).checked("fc")
