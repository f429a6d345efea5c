"""The four gate semantics, activation by activation, against inequalities (1) to (4) solved for h."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from formulation.network import MaxPool, Relu
from formulation.relaxation.bounds import Box
from formulation.relaxation.gates import (
    ACTIVE,
    INACTIVE,
    NO_PICK,
    UNSTABLE,
    Gate,
    exact,
    linear,
    pattern,
    pool_gate,
    published,
    relu_gate,
)
from tests.formulation.oracles import repeatable

unit = st.floats(0.0, 1.0)
SCORED, UNSCORED = np.array([0]), np.array([-1])
span = st.tuples(st.floats(-2, 2), st.floats(-2, 2)).map(sorted)


def one(made: Gate) -> tuple[int, float, float, float, float]:
    return (int(made.state[0, 0]), *(float(batch[0, 0]) for batch in (made.cap, made.big_m, made.lower, made.upper)))


def box(low: float, high: float) -> Box:
    return Box(np.array([[low]]), np.array([[high]]))


def interval_of_h(y: float, s: float, cap: float, big_m: float, open_: float) -> tuple[float, float]:
    """What (1) to (4) leave for h."""
    gated = y - (1 - s) * cap
    return max(0.0, gated), min(open_ * cap, gated - (1 - open_) * big_m)


def feasible_h(y: float, s: float, cap: float, big_m: float) -> tuple[float, float] | None:
    """The range of h over open in [0, 1], from a fine grid; None where nothing is feasible."""
    ranges = [interval_of_h(y, s, cap, big_m, o) for o in np.linspace(0, 1, 201)]
    kept = [r for r in ranges if r[0] <= r[1] + 1e-9]
    return (min(r[0] for r in kept), max(r[1] for r in kept)) if kept else None


@repeatable
@given(bounds=span, s=unit, at=unit, beyond=st.floats(-1, 1))
def test_what_published_decides_is_what_the_inequalities_leave(bounds, s, at, beyond):
    low, high = bounds
    y = low + at * (high - low) + beyond  # the gate of other units may carry y out of its nominal bounds
    state, cap, big_m, lower, upper = one(published(box(low, high)))
    left = feasible_h(y, s, max(high, 0.0), low)
    if state == UNSTABLE:
        assert low < 0 < high
        assert (cap, big_m) == (high, low)
    elif state == ACTIVE:
        assert low >= 0
        h = y - (1 - s) * cap
        if lower + 1e-6 < h < upper - 1e-6:
            assert left == pytest.approx((h, h), abs=1e-9)
        if h < lower - 1e-6 or h > upper + 1e-6:
            assert left is None
    else:
        assert high <= 0
        if lower + 1e-6 < y < upper - 1e-6:
            assert left == pytest.approx((0, 0), abs=1e-9)
        if y < lower - 1e-6 or y > upper + 1e-6:
            assert left is None


@repeatable
@given(bounds=span, s=unit, at=unit)
def test_exact_leaves_the_gated_relu_and_nothing_else_for_whole_phases(bounds, s, at):
    low, high = bounds
    y = low + at * (high - low)
    state, cap, big_m, _, _ = one(exact(box(low, high), SCORED))
    h = max(0.0, y - (1 - s) * cap)
    assert h <= s * cap + 1e-12  # the cut is valid
    if state == INACTIVE:
        assert h == 0
    elif state == ACTIVE:
        assert y - (1 - s) * cap == pytest.approx(s * y, abs=1e-12)
    else:
        kept = [r for r in (interval_of_h(y, s, cap, big_m, o) for o in (0.0, 1.0)) if r[0] <= r[1] + 1e-12]
        assert kept
        assert all(r == pytest.approx((h, h), abs=1e-9) for r in kept)


@repeatable
@given(bounds=span, at=unit)
def test_exact_at_a_whole_score_is_the_masked_relu(bounds, at):
    low, high = bounds
    y = low + at * (high - low)
    cap = max(high, 0.0)
    assert max(0.0, y - cap) == pytest.approx(0, abs=1e-12)
    assert one(exact(box(low, high), SCORED))[1] == cap


@repeatable
@given(centre=st.floats(-2, 2))
def test_pattern_follows_the_images_own_pattern(centre):
    state, cap, _, lower, upper = one(pattern(np.array([[centre]])))
    if centre > 0:
        assert (state, cap, lower, upper) == (ACTIVE, centre, 0.0, np.inf)
    else:
        assert (state, cap, lower, upper) == (INACTIVE, 0.0, -np.inf, 0.0)


@pytest.mark.parametrize(
    ("low", "high", "state"),
    [(-1, 1, UNSTABLE), (0, 1, ACTIVE), (0.5, 1, ACTIVE), (-1, 0, INACTIVE), (-2, -1, INACTIVE), (0, 0, INACTIVE)],
)
def test_published_at_its_edges(low: float, high: float, state: int) -> None:
    assert one(published(box(low, high)))[0] == state


@pytest.mark.parametrize(
    ("low", "high", "state"),
    [(-1, 1, UNSTABLE), (0.5, 1, UNSTABLE), (0, 1, UNSTABLE), (1, 1, ACTIVE), (0, 0, INACTIVE), (-1, 0, INACTIVE)],
)
def test_exact_decides_only_constants_and_dead_activations(low: float, high: float, state: int) -> None:
    assert one(exact(box(low, high), SCORED))[0] == state


def test_an_open_unit_at_exactly_0_counts_as_closed_in_pattern() -> None:
    assert one(pattern(np.array([[0.0]])))[0] == INACTIVE


def test_a_name_selects_its_semantics() -> None:
    bounds, centre, op = box(-1, 2), np.array([[0.5]]), Relu(SCORED)
    assert one(relu_gate("published", op, bounds, centre)) == one(published(bounds))
    assert one(relu_gate("exact", op, bounds, centre)) == one(exact(bounds, SCORED))
    assert one(relu_gate("pattern", op, bounds, centre)) == one(pattern(centre))
    assert relu_gate("exact", op, bounds, centre).cut
    assert not relu_gate("published", op, bounds, centre).cut


@repeatable
@given(bounds=span, at=unit)
def test_exact_without_a_score_is_the_plain_relu(bounds, at):
    low, high = bounds
    y = low + at * (high - low)
    state, cap, big_m, lower, upper = one(exact(box(low, high), UNSCORED))
    assert (lower, upper) == (-np.inf, np.inf)
    if state == INACTIVE:
        assert high <= 0
    elif state == ACTIVE:
        assert low >= 0
    else:
        assert low < 0 < high
        assert (cap, big_m) == (high, low)
        kept = [r for r in (interval_of_h(y, 1.0, cap, big_m, o) for o in (0.0, 1.0)) if r[0] <= r[1] + 1e-12]
        assert kept
        assert all(r == pytest.approx((max(0.0, y),) * 2, abs=1e-9) for r in kept)


# Max-pools -----------------------------------------------------------------------------------------------------------

POOL = MaxPool(np.array([[0, 1, 2], [3, -1, 2]]))
ends = st.lists(span, min_size=4, max_size=4)


def four(bounds: list[list[float]]) -> Box:
    return Box(np.array([[low] for low, _ in bounds]), np.array([[high] for _, high in bounds]))


@pytest.mark.parametrize("name", ["published", "exact"])
@repeatable
@given(bounds=st.lists(st.tuples(st.integers(-2, 2), st.integers(-2, 2)).map(sorted), min_size=4, max_size=4))
def test_a_window_is_stable_where_one_input_is_never_less_than_the_others_and_only_there(name, bounds):
    """Whole numbers, so that bounds tie: [0, 0] beside [0, 1] is stable."""
    made = pool_gate(name, POOL, four(bounds))
    for j, window in enumerate(POOL.windows):
        members = [k for k in window if k >= 0]
        dominant = [p for p in members if all(bounds[p][0] >= bounds[k][1] for k in members if k != p)]
        if dominant:
            assert window[made.pick[j, 0]] in dominant
        else:
            assert made.pick[j, 0] == NO_PICK
        assert made.unstable[j, 0] == (not dominant)
        assert made.top[j, 0] == (max(bounds[k][1] for k in members) if name == "exact" else np.inf)


@pytest.mark.parametrize("name", ["published", "exact"])
@repeatable
@given(bounds=ends, at=st.lists(unit, min_size=4, max_size=4))
def test_a_stable_windows_rows_and_an_unstable_ones_picks_leave_the_maximum(name, bounds, at):
    h = [low + a * (high - low) for (low, high), a in zip(bounds, at, strict=True)]
    made = pool_gate(name, POOL, four(bounds))
    for j, window in enumerate(POOL.windows):
        members = [(place, k) for place, k in enumerate(window) if k >= 0]
        largest = max(h[k] for _, k in members)
        pick = made.pick[j, 0]
        if pick != NO_PICK:
            assert h[window[pick]] == largest
            for place, k in members:
                assert made.lower[j, place, 0] <= largest - h[k] <= made.upper[j, place, 0] + 1e-12
            continue
        for picked, _ in members:  # (5) and (6): only a pick of the maximum leaves room, and that for the maximum alone
            most = min(h[k] + (place != picked) * made.slack[j, place, 0] for place, k in members)
            assert (most >= largest - 1e-12) == (h[window[picked]] >= largest - 1e-12)
            assert most <= largest + 1e-12
    assert (made.slack[POOL.windows < 0] == 0).all()


@repeatable
@given(centre=st.lists(st.integers(-2, 2), min_size=4, max_size=4))
def test_pattern_picks_the_first_maximum_and_keeps_the_others_below_it(centre):
    values = np.array(centre, dtype=float)[:, None]
    made = pool_gate("pattern", POOL, Box(values, values))
    for j, window in enumerate(POOL.windows):
        members = {place: centre[k] for place, k in enumerate(window) if k >= 0}
        assert made.pick[j, 0] == max(members, key=lambda place: members[place])
        needed = [place for place in members if place != made.pick[j, 0]]
        assert np.flatnonzero(np.isfinite(made.lower[j, :, 0])).tolist() == needed
        assert np.isinf(made.upper[j]).all()


def test_published_windows_keep_both_rows_and_exact_ones_none() -> None:
    bounds = four([[2, 3], [0, 1], [-1, 1], [1, 2]])
    kept, free = pool_gate("published", POOL, bounds), pool_gate("exact", POOL, bounds)
    np.testing.assert_array_equal(kept.pick, [[0], [0]])
    np.testing.assert_array_equal(free.pick, kept.pick)
    np.testing.assert_array_equal(kept.lower[:, :, 0], [[-np.inf, 0, 0], [-np.inf, -np.inf, 0]])
    np.testing.assert_array_equal(kept.upper[:, :, 0], [[np.inf, 3, 4], [np.inf, np.inf, 3]])
    assert np.isinf(free.lower).all()
    assert np.isinf(free.upper).all()


# linear -------------------------------------------------------------------------------------------------------------


@repeatable
@given(st.floats(-10, 10))
def test_linear_has_the_phases_of_pattern_and_no_rows(centre: float) -> None:
    values = np.array([[centre]])
    made, kept = linear(values), pattern(values)
    assert (made.state == kept.state).all()
    assert (made.cap == kept.cap).all()
    assert np.isneginf(made.lower).all()
    assert np.isposinf(made.upper).all()


def test_linear_picks_the_first_maximum_of_a_window_and_has_no_rows() -> None:
    values = np.array([[1.0], [3.0], [3.0], [0.5]])
    made, kept = (pool_gate(name, POOL, Box(values, values)) for name in ("linear", "pattern"))
    assert (made.pick == kept.pick).all()
    assert np.isneginf(made.lower).all()
    assert np.isposinf(made.upper).all()
