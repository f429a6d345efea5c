from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.errors import SelectionError
from training.pruning.selection import by_threshold, counts

SCORES = arrays(np.float64, st.integers(1, 12), elements=st.floats(0, 1))


@given(SCORES, st.floats(0, 1), st.integers(1, 5))
def test_units_below_the_threshold_go_and_the_floor_stays(values: np.ndarray, threshold: float, floor: int) -> None:
    selection = by_threshold({"a": values}, threshold, floor=floor)
    kept = selection.masks["a"]
    assert kept[values >= threshold].all()
    assert kept.sum() == max(int((values >= threshold).sum()), min(floor, len(values)))
    if not kept.all():
        assert values[kept].min() >= values[~kept].max()
    assert selection.kept_by_floor.get("a", 0) == int((values[kept] < threshold).sum())


def test_a_score_at_the_threshold_stays() -> None:
    assert by_threshold({"a": np.array([0.1, 0.2, 0.3])}, 0.2).masks["a"].tolist() == [False, True, True]


def test_a_layer_is_never_emptied_and_the_selection_says_so() -> None:
    selection = by_threshold({"a": np.array([0.1, 0.3, 0.3]), "b": np.array([0.9, 0.1])}, 0.5)
    assert selection.masks["a"].tolist() == [False, True, False]
    assert selection.kept_by_floor == {"a": 1}
    assert counts(selection.masks) == {"a": 2, "b": 1}


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(SelectionError, match="threshold="):
        by_threshold({"a": np.array([0.5])}, threshold)


def test_scores_and_floors_that_make_no_mask_are_refused() -> None:
    with pytest.raises(SelectionError, match="score of unit 1 of 'a' is nan"):
        by_threshold({"a": np.array([0.5, np.nan])}, 0.5)
    with pytest.raises(SelectionError, match="scores of 'a' have shape"):
        by_threshold({"a": np.zeros((0,))}, 0.5)
    with pytest.raises(SelectionError, match="floor=0"):
        by_threshold({"a": np.array([0.5])}, 0.5, floor=0)
