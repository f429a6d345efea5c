"""Choice after refit: the best of all masks that were judged, each judged once."""

from itertools import combinations, product

import numpy as np
import pytest

from training.errors import FitSettingsError, MaskError
from training.pruning.masks import Masks
from training.pruning.ranking import choose_refitted

WORTH = {"a": np.array([5.0, 1.0, 3.0, 2.0]), "b": np.array([1.0, 4.0, 2.0, 0.5])}


def masks_of(a: tuple[int, int], b: tuple[int, int]) -> Masks:
    return {layer: np.isin(np.arange(4), kept) for layer, kept in (("a", a), ("b", b))}


def worth(masks: Masks) -> float:
    return sum(float(WORTH[layer][mask].sum()) for layer, mask in masks.items())


def better_in_a(masks: Masks) -> Masks:
    return masks | {"a": np.isin(np.arange(4), (0, 2))}


def test_swaps_and_layers_of_other_masks_lead_to_the_best_of_all() -> None:
    candidates = {"good in a": masks_of((0, 3), (2, 3)), "good in b": masks_of((1, 3), (1, 2))}
    asked: list[float] = []

    def judge(masks: Masks) -> float:
        asked.append(worth(masks))
        return asked[-1]

    found = choose_refitted(candidates, judge, better_in_a)
    pairs = list(combinations(range(4), 2))
    every = [worth(masks_of(a, b)) for a, b in product(pairs, pairs)]
    assert found.value == worth(found.masks) == max(asked) == max(every)
    assert len(asked) == len(found.judged)
    assert found.judged["good in a"] == worth(candidates["good in a"])


@pytest.mark.parametrize("crossings", [0, 1])
def test_nothing_is_tried_that_was_not_asked_for(crossings: int) -> None:
    candidates = {"one": masks_of((0, 2), (2, 3)), "same": masks_of((0, 2), (2, 3)), "two": masks_of((1, 3), (1, 2))}
    found = choose_refitted(candidates, worth, crossings=crossings)
    assert len(found.judged) == 2 + crossings
    assert found.value == max(found.judged.values()) == found.judged[found.origin]


def test_candidates_of_other_counts_or_none_are_refused() -> None:
    with pytest.raises(MaskError, match="no candidates"):
        choose_refitted({}, worth)
    fewer = {"a": np.array([True, False, False, False]), "b": np.ones(4, bool)}
    with pytest.raises(MaskError, match="'fewer' keeps"):
        choose_refitted({"one": masks_of((0, 2), (2, 3)), "fewer": fewer}, worth)
    with pytest.raises(FitSettingsError, match="starts=-1"):
        choose_refitted({"one": masks_of((0, 2), (2, 3))}, worth, starts=-1)
