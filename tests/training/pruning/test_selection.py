from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.errors import SelectionError
from training.pruning.selection import by_counts, by_threshold, counts

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


@given(SCORES, st.data())
def test_masks_at_counts_remove_exactly_so_many_of_the_lowest(values: np.ndarray, data: st.DataObject) -> None:
    removed = data.draw(st.integers(0, len(values) - 1))
    mask = by_counts({"a": values, "b": np.zeros(3)}, {"a": removed})["a"]
    assert counts({"a": mask}) == {"a": removed}
    if removed:
        assert values[mask].min() >= values[~mask].max()
        tied = np.flatnonzero(values == values[mask].min())
        assert mask[tied].tolist() == sorted(mask[tied].tolist(), reverse=True)


def test_counts_that_no_mask_has_are_refused() -> None:
    scores = {"conv1": np.zeros(3), "conv2": np.zeros(3), "fc": np.zeros(2)}
    with pytest.raises(SelectionError, match="3 units to remove of 'conv1', which has 3: use 0 to 2"):
        by_counts(scores, {"conv1": 3})
    with pytest.raises(SelectionError, match="-1 units to remove"):
        by_counts(scores, {"conv1": -1})
    with pytest.raises(SelectionError, match="layer 'conv3' has no scores: did you mean 'conv2' or 'conv1'"):
        by_counts(scores, {"conv3": 1})
