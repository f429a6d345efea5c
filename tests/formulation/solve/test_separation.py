"""Rows are added only when violated: which ones, how many, and how far a point may go."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from formulation import ScoreSettings, TimeLimitReached
from formulation.deadline import Deadline
from formulation.network import Array
from formulation.relaxation.cuts import Cuts, stack_cuts
from formulation.relaxation.gates import ACTIVE, Gate, PoolGate
from formulation.relaxation.propagation import forward
from formulation.relaxation.reduction import Reduction
from formulation.solve.separation import TOLERANCE, Inspection, Separation, TangentPoint, complete, first_of
from tests.formulation.cases import Case, batchnorm_after_relu, concatenated, conv_pool, dense, max_pooled
from tests.formulation.paper_settings import paper_settings

MANY = 10_000
CASES: list[tuple[Case, ScoreSettings]] = [
    (dense(1, images=5), paper_settings(radius=0.05)),
    (conv_pool(1), paper_settings(gate="pattern", radius=0)),
    (max_pooled(1), paper_settings(radius=0.02)),
    (max_pooled(1), paper_settings(gate="pattern", radius=0)),
    (concatenated(1), paper_settings(radius=0.02)),
    (batchnorm_after_relu(1), paper_settings(gate="pattern", radius=0)),
]
every_case = pytest.mark.parametrize(("case", "settings"), CASES)


def made(case: Case, settings: ScoreSettings) -> tuple[Reduction, Array, Separation]:
    reduction = case.reduction(settings, batch_size=2)
    ones, _ = complete(reduction, np.ones(reduction.scores))
    return reduction, ones, Separation(reduction)


def test_a_pass_batch_by_batch_comes_to_its_end_where_there_is_time_for_it() -> None:
    reduction, ones, _ = made(*CASES[0])
    assert len(reduction.starts) == 3
    again, logits = complete(reduction, np.ones(reduction.scores), Deadline.after(60.0))
    np.testing.assert_array_equal(again, ones)
    assert logits.shape[1] == 5
    with pytest.raises(TimeLimitReached):
        complete(reduction, np.ones(reduction.scores), Deadline.after(0.0))


def looked_at(separation: Separation, point: Array, limit: int = 0) -> Inspection:
    return separation.inspect(point, limit=limit, shares=())


def worst_by_hand(reduction: Reduction, point: Array) -> float:
    """Every stable ReLU's h >= 0, h <= u+, l <= y <= 0, and every stable window's differences, one by one."""
    worst = 0.0
    for batch in reduction.batches:
        read = forward(reduction, batch, point).read
        for name, gate in batch.gates.items():
            node, value = reduction.network.node(name), read[name]
            for j, i in np.ndindex(node.size, batch.images):
                if isinstance(gate, Gate) and not gate.unstable[j, i]:
                    k = node.op.score[j]
                    lost = (1 - point[k]) * gate.cap[j, i] if k >= 0 else 0.0
                    at = value[j, i] - (lost if gate.state[j, i] == ACTIVE else 0.0)
                    worst = max(worst, gate.lower[j, i] - at, at - gate.upper[j, i])
                if isinstance(gate, PoolGate) and not gate.unstable[j, i]:
                    window = node.op.windows[j]
                    for place in np.flatnonzero(window >= 0):
                        at = value[window[gate.pick[j, i]], i] - value[window[place], i]
                        worst = max(worst, gate.lower[j, place, i] - at, at - gate.upper[j, place, i])
    return worst


def broken(rows: Cuts, point: Array) -> Array:
    value = rows.matrix @ point
    return np.maximum(rows.lower - value, value - rows.upper)


def beyond(rows: Cuts, ones: Array, point: Array) -> Array:
    """The share of the way from the unpruned network to a point that lies beyond each row."""
    return broken(rows, point) / np.abs(rows.matrix @ (point - ones))


@every_case
def test_the_unpruned_network_breaks_no_row(case: Case, settings: ScoreSettings) -> None:
    _, ones, separation = made(case, settings)
    found = looked_at(separation, ones, 100)
    assert found.violation <= 1e-12
    assert len(found.cuts) == 0
    assert found.step == 1.0


@pytest.mark.parametrize("seed", range(5))
@every_case
def test_a_step_inside_breaks_no_cut_and_the_next_one_does(case: Case, settings: ScoreSettings, seed: int) -> None:
    reduction, ones, separation = made(case, settings)
    point = np.random.default_rng(seed).random(reduction.columns)
    found = looked_at(separation, point)
    assert found.violation == pytest.approx(worst_by_hand(reduction, point), abs=1e-12)
    assert worst_by_hand(reduction, ones + found.step * (point - ones)) <= 2 * TOLERANCE
    if found.step < 0.99:
        assert worst_by_hand(reduction, ones + (found.step + 0.01) * (point - ones)) > TOLERANCE


@every_case
def test_every_cut_is_given_once_those_met_first_of_each_slice_first(case: Case, settings: ScoreSettings) -> None:
    reduction, ones, separation = made(case, settings)
    point = np.random.default_rng(0).random(reduction.columns)
    found = looked_at(separation, point, 2)
    first = found.cuts
    rest = looked_at(separation, point, MANY).cuts
    assert 2 <= len(first) < len(first) + len(rest)
    for batch in reduction.batches:
        mine, others = (rows.source[:, 2] // 2 == batch.first // 2 for rows in (first, rest))
        if mine.any() and others.any():
            assert beyond(first, ones, point)[mine].min() >= beyond(rest, ones, point)[others].max() - 1e-9
    every = stack_cuts([first, rest], reduction.columns)
    assert broken(every, point).max() == pytest.approx(worst_by_hand(reduction, point))
    assert 1 - beyond(first, ones, point).max() == pytest.approx(found.step, abs=1e-6)
    assert len(looked_at(separation, point, MANY).cuts) == 0


def test_the_cuts_met_first_come_first_among_hundreds() -> None:
    reduction = conv_pool(1, images=30).reduction(paper_settings(gate="pattern", radius=0))
    separation, point = Separation(reduction), np.random.default_rng(0).random(reduction.columns)
    ones = np.ones(reduction.columns)
    first = looked_at(separation, point, 40).cuts
    rest = looked_at(separation, point, MANY).cuts
    assert len(first) == 40
    assert len(rest) > 300
    assert beyond(first, ones, point).min() >= beyond(rest, ones, point).max() - 1e-9


@every_case
def test_rows_hold_wherever_their_forms_do(case: Case, settings: ScoreSettings) -> None:
    """Each row at any point says what the value that its source names says there."""
    reduction, ones, separation = made(case, settings)
    rng = np.random.default_rng(0)
    rows = looked_at(separation, rng.random(reduction.columns), MANY).cuts
    assert (broken(rows, ones) <= 1e-9).all()
    elsewhere = rng.normal(0.5, 1, reduction.columns)
    for batch in reduction.batches:
        values = forward(reduction, batch, elsewhere).cut_values
        for k in np.flatnonzero((rows.source[:, 2] >= batch.first) & (rows.source[:, 2] < batch.where.stop)):
            position, flat, image = rows.source[k]
            name = reduction.network.nodes[position].name
            gate = batch.gates[name]
            where = (*np.unravel_index(flat, gate.lower.shape[:-1]), image - batch.first)
            excess = max(gate.lower[where] - values[name][where], values[name][where] - gate.upper[where])
            assert broken(rows, elsewhere)[k] == pytest.approx(excess, abs=1e-9)


def test_no_more_cuts_than_asked_for_but_for_ties_and_slices() -> None:
    case, settings = CASES[0]
    reduction, _, separation = made(case, settings)
    point = np.zeros(reduction.columns)
    assert len(looked_at(separation, point, 3).cuts) <= 6
    assert len(looked_at(separation, point, 0).cuts) == 0


def test_the_loss_cuts_of_a_pass_touch_the_loss_there_and_halfway() -> None:
    case, settings = CASES[0]
    reduction, ones, separation = made(case, settings)
    point = np.random.default_rng(1).random(reduction.columns)
    logits = looked_at(separation, ones).logits
    here = separation.inspect(point).loss_cuts
    both = separation.inspect(point, towards=TangentPoint(ones, logits), shares=(0.0, 0.5)).loss_cuts
    middle = separation.inspect((point + ones) / 2).loss_cuts
    assert len(both) == 2 * len(here) == 2 * reduction.images
    np.testing.assert_allclose(both.matrix.toarray(), np.vstack([here.matrix.toarray(), middle.matrix.toarray()]))
    np.testing.assert_allclose(both.lower, np.concatenate([here.lower, middle.lower]), atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_no_more_are_taken_than_the_limit_however_many_tie(seed: int) -> None:
    draw = np.random.default_rng(seed)
    values, ties = draw.integers(0, 3, 60) / 2, draw.random(60)
    taken = first_of(values, ties, 7)
    assert taken.sum() == 7
    assert values[taken].min() >= values[~taken].max()
    least = values[taken].min()
    within = values == least
    assert ties[taken & within].min(initial=1.0) >= ties[within & ~taken].max(initial=0.0)
    assert first_of(values, ties, 60).all()


def test_windows_of_equal_members_do_not_void_the_limit() -> None:
    # A convolution without bias on black images: every member of every window is the largest one.
    torch.manual_seed(0)
    first = [nn.Conv2d(1, 4, 3, bias=False), nn.ReLU(), nn.MaxPool2d(2)]
    second = [nn.Conv2d(4, 4, 2, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)]
    network = nn.Sequential(*first, *second).double().eval()
    images = torch.zeros(6, 1, 12, 12, dtype=torch.float64)
    images[:, :, :5, :5] = torch.rand(6, 1, 5, 5, dtype=torch.float64)
    labels = network(images).argmax(1)
    settings = paper_settings(gate="pattern", radius=0)
    reduction = Case(network, {"0": "1", "3": "4"}, images, labels).reduction(settings)
    point = np.linspace(0.0, 1.0, reduction.scores)
    assert len(looked_at(Separation(reduction), point, limit=MANY).cuts) > 12
    assert 0 < len(looked_at(Separation(reduction), point, limit=6).cuts) <= 6 + len(reduction.starts)


def test_the_first_of_many_are_those_that_sorting_puts_first() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        count = int(rng.integers(1, 400))
        values = rng.integers(0, rng.choice([6, 600]), count).astype(np.float64)  # many are equal, or few
        ties, limit = rng.random(count), int(rng.integers(1, count + 2))
        expected = np.zeros(count, dtype=bool)
        expected[np.lexsort((-ties, -values))[:limit]] = True
        np.testing.assert_array_equal(first_of(values, ties, limit), expected)
