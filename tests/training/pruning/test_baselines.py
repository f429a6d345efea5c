from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.errors import MaskError, SelectionError
from training.pruning import counts, critical_masks, masks_digest, random_masks

MASKS = st.dictionaries(st.sampled_from(["conv1", "conv2", "fc1"]), arrays(np.bool_, st.integers(1, 20)), min_size=1)


@given(MASKS, st.integers(0, 2**31), st.integers(1, 4))
def test_random_masks_remove_as_many_units_per_layer(masks: dict[str, np.ndarray], seed: int, draws: int) -> None:
    drawn = random_masks(masks, seed=seed, draws=draws)
    assert len(drawn) == draws
    # Equal counts of removed units, each at its own position: drawn without replacement.
    assert all(counts(each) == counts(masks) for each in drawn)
    assert all(each[layer].shape == masks[layer].shape for each in drawn for layer in masks)


@given(MASKS, st.integers(0, 2**31))
def test_random_masks_follow_their_seed_and_a_draw_does_not_depend_on_how_many_are_asked_for(
    masks: dict[str, np.ndarray], seed: int
) -> None:
    few, many = random_masks(masks, seed=seed, draws=2), random_masks(masks, seed=seed, draws=4)
    assert [masks_digest(each) for each in few] == [masks_digest(each) for each in many[:2]]


def test_draws_differ_from_each_other_and_between_seeds() -> None:
    masks = {"fc1": np.arange(100) < 50}
    drawn = random_masks(masks, seed=0) + random_masks(masks, seed=1)
    assert len({masks_digest(each) for each in drawn}) == 10


def test_every_unit_is_removed_about_equally_often() -> None:
    removed = sum(~each["a"] for each in random_masks({"a": np.arange(10) < 7}, seed=0, draws=2000))
    assert np.abs(removed / 2000 - 0.3).max() < 0.05


@given(MASKS, st.data())
def test_critical_masks_remove_the_highest_scored_units(masks: dict[str, np.ndarray], data: st.DataObject) -> None:
    scores = {
        layer: data.draw(arrays(np.float64, mask.shape, elements=st.sampled_from([0.0, 0.5, 1.0])))
        for layer, mask in masks.items()
    }
    critical = critical_masks(scores, masks)
    assert counts(critical) == counts(masks)
    for layer, mask in critical.items():
        if mask.any() and not mask.all():
            assert scores[layer][~mask].min() >= scores[layer][mask].max()


def test_controls_without_scores_draws_or_a_seed_are_refused() -> None:
    masks = {"a": np.array([True, False])}
    with pytest.raises(SelectionError, match="draws=0"):
        random_masks(masks, seed=0, draws=0)
    with pytest.raises(SelectionError, match="seed=-1"):
        random_masks(masks, seed=-1)
    with pytest.raises(MaskError, match="mask for 'a' has 2 units but its scores are none"):
        critical_masks({}, masks)
    with pytest.raises(MaskError, match=r"its scores are \(3,\)"):
        critical_masks({"a": np.zeros(3)}, masks)
