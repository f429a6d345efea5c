"""Spearman's rank correlation: against its formula, and what must not change it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import spearmanr

from flows.reporting.rank_correlation import agreement, agreement_by_layer, spearman

Values = NDArray[np.float64]
# Few distinct values, so that most vectors have ties.
PAIRS = st.integers(2, 12).flatmap(
    lambda units: st.lists(
        st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), min_size=units, max_size=units), min_size=2, max_size=2
    )
)


def ranks(values: Values) -> Values:
    """Ranks from 1, equal values sharing the mean of theirs, by counting."""
    return np.array([(values < each).sum() + ((values == each).sum() + 1) / 2 for each in values])


def by_formula(first: Values, second: Values) -> float:
    left, right = ranks(first) - ranks(first).mean(), ranks(second) - ranks(second).mean()
    scale = math.sqrt((left**2).sum() * (right**2).sum())
    return float((left * right).sum() / scale) if scale else math.nan


@given(PAIRS)
def test_it_is_pearsons_correlation_of_averaged_ranks(pair: list[list[float]]) -> None:
    values = np.array(pair)
    assert spearman(values, values)[0, 1] == pytest.approx(by_formula(*values), abs=1e-12, nan_ok=True)


@given(PAIRS, st.randoms(use_true_random=False))
def test_the_order_of_the_units_does_not_matter(pair: list[list[float]], random) -> None:
    values = np.array(pair)
    order = list(range(values.shape[1]))
    random.shuffle(order)
    np.testing.assert_allclose(spearman(values, values), spearman(values[:, order], values[:, order]), atol=1e-12)


@given(PAIRS)
def test_a_growing_function_of_the_scores_does_not_matter_and_a_falling_one_turns_the_sign(
    pair: list[list[float]],
) -> None:
    values = np.array(pair)
    np.testing.assert_allclose(spearman(values, np.exp(3 * values)), spearman(values, values), atol=1e-12)
    np.testing.assert_allclose(spearman(values, -values), -spearman(values, values), atol=1e-12)


def test_it_is_scipys_on_vectors_with_many_ties() -> None:
    values = np.random.default_rng(0).integers(0, 4, size=(2, 40)).astype(np.float64)
    assert spearman(values[:1], values[1:])[0, 0] == pytest.approx(spearmanr(*values).statistic, abs=1e-12)


def test_ties_share_the_mean_of_their_ranks() -> None:
    # Ranks 1.5, 1.5, 3 and 1, 2, 3.
    assert spearman(np.array([[0.0, 0.0, 1.0]]), np.array([[0.0, 0.5, 1.0]]))[0, 0] == pytest.approx(math.sqrt(3) / 2)


def test_a_vector_with_a_nan_orders_nothing_and_does_not_touch_the_others() -> None:
    values = np.array([[0.0, math.nan, 1.0, 0.5], [0.0, 0.2, 1.0, 0.5], [0.0, 0.3, 0.9, 0.4], [1.0, 1.0, 1.0, 1.0]])
    np.testing.assert_array_equal(np.isfinite(spearman(values, values)), np.outer([0, 1, 1, 0], [0, 1, 1, 0]))
    assert spearman(values[1:2], values)[0, 2] == pytest.approx(1)
    assert spearman(values[:0], values).shape == (0, 4)


def test_constant_vectors_are_counted_apart_from_the_pairs() -> None:
    found = agreement(np.array([[1.0, 1.0, 1.0], [0.0, 0.5, 1.0], [0.0, 0.5, 1.0], [1.0, 0.5, 0.0]]))
    assert (found.constant, found.pairs) == (1, 3)
    assert found.mean == pytest.approx((1 - 1 - 1) / 3)
    assert found.smallest == pytest.approx(-1)


def test_a_constant_layer_has_no_agreement_and_does_not_touch_the_others() -> None:
    found = agreement_by_layer({"flat": np.ones((3, 4)), "steep": np.tile(np.arange(4.0), (3, 1))})
    assert (found["flat"].mean, found["flat"].smallest, found["flat"].pairs) == (None, None, 0)
    assert found["flat"].constant == 3
    assert found["steep"].mean == pytest.approx(1)
