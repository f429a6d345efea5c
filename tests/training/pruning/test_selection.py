from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from training.errors import SelectionError
from training.pruning.limits import Limits
from training.pruning.selection import (
    Selection,
    by_count,
    by_counts,
    by_layer_mean,
    by_quantile,
    by_share,
    by_threshold,
    counts,
)

SCORES = arrays(np.float64, st.integers(1, 12), elements=st.floats(0, 1))


@given(SCORES, st.floats(0, 1))
def test_units_below_the_threshold_go_and_one_stays(values: np.ndarray, threshold: float) -> None:
    selection = by_threshold({"a": values}, threshold)
    kept = selection.masks["a"]
    assert kept[values >= threshold].all()
    assert kept.sum() == max(int((values >= threshold).sum()), 1)
    if not kept.all():
        assert values[kept].min() >= values[~kept].max()
    assert selection.kept_by_floor.get("a", 0) == int((values[kept] < threshold).sum())


LAYERS = st.dictionaries(st.sampled_from(["conv1", "conv2", "fc1", "fc2"]), SCORES, min_size=1)
RULES = {
    "by_threshold": (by_threshold, st.floats(0, 1)),
    "by_layer_mean": (by_layer_mean, st.floats(0, 3)),
    "by_count": (by_count, st.just(1) | st.just({"*": 0})),
    "by_share": (by_share, st.floats(0, 1, exclude_max=True)),
    "by_quantile": (by_quantile, st.floats(0, 1, exclude_max=True)),
}


@pytest.mark.parametrize("name", RULES)
@given(st.data(), LAYERS, st.integers(1, 5))
def test_every_rule_respects_the_limits_and_says_what_they_kept(
    name: str, data: st.DataObject, scores: dict[str, np.ndarray], round_to: int
) -> None:
    rule, values = RULES[name]
    value = data.draw(values)
    floors = {layer: data.draw(st.integers(1, len(own))) for layer, own in scores.items()}
    alone = tuple(data.draw(st.sets(st.sampled_from(sorted(scores)))))
    selection = rule(scores, value, Limits(floors, round_to, alone))
    # The same rule with no limit but that a layer is never emptied, on the layers that are not left alone.
    others = {layer: own for layer, own in scores.items() if layer not in alone}
    free = rule(others, value) if others else Selection({}, {})
    for layer, mask in selection.masks.items():
        units, kept = len(mask), int(mask.sum())
        if layer in alone:
            assert mask.all()
            continue
        asked = int(free.masks[layer].sum()) - free.kept_by_floor.get(layer, 0)
        assert kept >= max(asked, floors[layer])
        assert kept % round_to == 0 or kept == units
        assert kept < max(asked, floors[layer]) + round_to
        by_limit = selection.kept_by_floor.get(layer, 0) + selection.kept_by_rounding.get(layer, 0)
        assert by_limit == kept - asked
        if not mask.all():
            assert scores[layer][mask].min() >= scores[layer][~mask].max()


@given(LAYERS, st.integers(0, 99))
def test_a_global_quantile_removes_the_lowest_of_all_layers(scores: dict[str, np.ndarray], percent: int) -> None:
    selection = by_quantile(scores, percent / 100)
    total = sum(len(values) for values in scores.values())
    removed = sum(counts(selection.masks).values())
    assert removed + sum(selection.kept_by_floor.values()) == percent * total // 100
    if not selection.kept_by_floor and removed:
        gone = np.concatenate([scores[layer][~mask] for layer, mask in selection.masks.items()])
        kept = np.concatenate([scores[layer][mask] for layer, mask in selection.masks.items()])
        assert gone.max() <= kept.min()


@given(st.integers(1, 300), st.integers(0, 99))
def test_a_share_is_of_each_layer_rounded_down(units: int, percent: int) -> None:
    selection = by_share({"a": np.arange(units) / units}, percent / 100)
    assert counts(selection.masks) == {"a": min(percent * units // 100, units - 1)}


def test_rules_by_hand() -> None:
    scores = {"conv": np.array([0.1, 0.9, 0.5, 0.5]), "fc": np.array([0.6, 0.2])}
    assert counts(by_layer_mean(scores).masks) == {"conv": 1, "fc": 1}
    assert counts(by_layer_mean(scores, 1.1).masks) == {"conv": 3, "fc": 1}
    assert by_count(scores, {"conv": 2}).masks["conv"].tolist() == [False, True, True, False]
    assert counts(by_count(scores, {"conv": 2}).masks) == {"conv": 2, "fc": 0}
    assert counts(by_share(scores, {"f*": 0.5}).masks) == {"conv": 0, "fc": 1}
    assert counts(by_quantile(scores, 0.34).masks) == {"conv": 1, "fc": 1}
    assert counts(by_quantile(scores, 0.5, Limits(leave_alone=("conv",))).masks) == {"conv": 0, "fc": 1}
    assert counts(by_quantile(scores, 0.5, Limits(leave_alone=("*",))).masks) == {"conv": 0, "fc": 0}
    protected = by_share(scores, 0.5, Limits(leave_alone=("conv",)))
    assert protected.kept_by_protection == {"conv": 2}
    rounded = by_share({"a": np.arange(10.0)}, 0.5, Limits(round_to=4))
    assert (counts(rounded.masks), rounded.kept_by_rounding) == ({"a": 2}, {"a": 3})
    assert by_share({"a": np.arange(10.0)}, 0.1, Limits(round_to=16)).masks["a"].all()


@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.7])
@pytest.mark.parametrize("units", [3, 7, 100])
def test_a_layer_of_equal_scores_keeps_them_all_at_its_mean(value: float, units: int) -> None:
    assert by_layer_mean({"a": np.full(units, value)}).masks["a"].all()


def test_a_name_goes_before_a_pattern_and_an_earlier_pattern_before_a_later_one() -> None:
    scores = {"conv1": np.arange(9.0), "conv2": np.arange(9.0), "fc": np.arange(9.0)}
    selection = by_count(scores, {"c*": 4, "conv2": 2, "*": 7})
    assert counts(selection.masks) == {"conv1": 5, "conv2": 7, "fc": 2}


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


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_shares_out_of_range_are_refused(share: float) -> None:
    for select in (by_share, by_quantile):
        with pytest.raises(SelectionError, match=f"share={share} is out of range"):
            select({"a": np.ones(3)}, share)
    with pytest.raises(SelectionError, match="of layer 'a' is out of range"):
        by_share({"a": np.ones(3)}, {"*": share})


def test_limits_that_do_not_fit_are_refused() -> None:
    scores = {"conv1": np.ones(3), "fc1": np.ones(9)}
    with pytest.raises(SelectionError, match="floor=4 is above the width of layer 'conv1', which has 3 units"):
        by_share(scores, 0.5, Limits(floor=4))
    with pytest.raises(SelectionError, match="floor=10 is above the width of layer 'fc1', which has 9"):
        by_share(scores, 0.5, Limits(floor={"fc*": 10}))
    assert by_share(scores, 0.5, Limits(floor=4, leave_alone=("conv1",))).masks["fc1"].sum() == 5
    with pytest.raises(SelectionError, match="layer 'conv' has no scores: did you mean 'conv1'"):
        by_share(scores, 0.5, Limits(leave_alone=("conv",)))
    with pytest.raises(SelectionError, match=r"layer 'x\*' has no scores: use 'conv1', 'fc1'"):
        by_share(scores, 0.5, Limits(floor={"x*": 1}))
    with pytest.raises(SelectionError, match="layer 'fc2' has no scores: did you mean 'fc1'"):
        by_count(scores, {"fc2": 1})
    with pytest.raises(SelectionError, match="4 units to keep of layer 'conv1', which has 3: use 0 to 3"):
        by_count(scores, 4)
    with pytest.raises(SelectionError, match="-1 units to keep"):
        by_count(scores, -1)
    with pytest.raises(SelectionError, match="floor=0 is out of range"):
        Limits(floor={"a": 0})
    with pytest.raises(SelectionError, match="round_to=0 is out of range"):
        Limits(round_to=0)
    for number in (1.5, 2.0, float("nan"), float("inf"), "2"):
        with pytest.raises(SelectionError, match=f"floor={number!r} is no whole number: use 1 or more"):
            Limits(floor={"a": number})
        with pytest.raises(SelectionError, match=f"round_to={number!r} is no whole number: use 1 or more"):
            Limits(round_to=number)
    assert Limits(np.int64(2), np.int64(3)).floors({"a": 4}) == {"a": 2}
    for factor in (-1.0, float("inf"), float("nan")):
        with pytest.raises(SelectionError, match="factor="):
            by_layer_mean(scores, factor)


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


def test_the_widths_that_layers_may_keep_are_plain_numbers() -> None:
    limits = Limits(floor={"conv*": 3, "conv1": 2}, round_to=4, leave_alone=("fc*",))
    assert limits.allowed({"conv1": 6, "conv2": 9, "fc1": 5}) == {"conv1": (4, 6), "conv2": (4, 8, 9), "fc1": (5,)}
    assert Limits().allowed({"a": 3}) == {"a": (1, 2, 3)}
    with pytest.raises(SelectionError, match="floor=3 is above the width of layer 'a'"):
        Limits(floor=3).allowed({"a": 2})
