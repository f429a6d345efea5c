"""Scores of several scoring sets as one."""

from __future__ import annotations

import numpy as np
import pytest

from formulation import InvalidSolution, mean_scores, merged_scores


def test_the_mean_is_taken_unit_by_unit() -> None:
    sets = [{"a": np.array([0.0, 1.0]), "b": np.array([0.5])}, {"a": np.array([1.0, 1.0]), "b": np.array([0.0])}]
    mean = mean_scores(sets)
    assert list(mean) == ["a", "b"]
    np.testing.assert_allclose(mean["a"], [0.5, 1.0])
    np.testing.assert_allclose(mean["b"], [0.25])


def test_one_set_is_its_own_mean() -> None:
    scores = {"a": np.array([0.1, 0.7])}
    np.testing.assert_array_equal(mean_scores([scores])["a"], scores["a"])


@pytest.mark.parametrize(
    "other", [{"a": np.zeros(3)}, {"b": np.zeros(2)}, {"a": np.zeros(2), "b": np.zeros(1)}, {"a": np.zeros((2, 1))}]
)
def test_sets_of_different_networks_are_refused(other: dict[str, np.ndarray]) -> None:
    with pytest.raises(InvalidSolution, match="different networks"):
        mean_scores([{"a": np.zeros(2)}, other])


def test_no_sets_are_refused() -> None:
    with pytest.raises(InvalidSolution, match="no scores"):
        mean_scores([])


def test_the_scores_of_blocks_are_those_of_the_network_in_the_order_of_the_blocks() -> None:
    first, second = {"b": np.array([0.1])}, {"a": np.array([0.7, 0.2]), "c": np.zeros(1)}
    merged = merged_scores([first, second])
    assert list(merged) == ["b", "a", "c"]
    assert all(merged[name] is values for part in (first, second) for name, values in part.items())


def test_a_layer_of_two_blocks_is_refused() -> None:
    with pytest.raises(InvalidSolution, match="layer 'a' is scored by two blocks"):
        merged_scores([{"a": np.zeros(2)}, {"a": np.zeros(2)}])


def test_no_blocks_are_refused() -> None:
    with pytest.raises(InvalidSolution, match="no scores to merge"):
        merged_scores([])
