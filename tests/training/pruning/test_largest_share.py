"""The largest share that may go: what is found holds, the next one tried did not, and few are tried."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training import Limits, Masks, by_share, counts, largest_share, shares_tried, smallest_share
from training.pruning.largest_share import bisect_last

UNITS = 60
LEAST = 0.9695  # between two numbers of units
VALUES = {"fc": np.arange(UNITS, dtype=np.float64)}


@given(st.integers(0, 50), st.integers(0, 50))
def test_bisection_finds_the_last_number_that_holds(last: int, further: int) -> None:
    asked: list[int] = []

    def holds(number: int) -> bool:
        asked.append(number)
        return number <= last

    assert bisect_last(holds, 0, last + 1 + further) == last
    assert len(asked) <= 7


@given(st.integers(0, UNITS - 1))
def test_to_the_unit_so_many_go_as_the_accuracy_allows(most: int) -> None:
    asked: list[int] = []

    def accuracy(masks: Masks) -> float:
        asked.append(counts(masks)["fc"])
        return 1.0 - asked[-1] / UNITS

    found, tried = largest_share(lambda share: by_share(VALUES, share), accuracy, UNITS, 1.0 - (most + 0.5) / UNITS)
    assert counts(found.selection.masks)["fc"] == most
    assert len(asked) == len(set(asked)) == len(tried) <= 13
    assert abs(shares_tried(UNITS) - len(tried)) <= 1
    assert found in tried


def test_where_nothing_tried_is_accurate_enough_nothing_goes() -> None:
    found, _ = largest_share(lambda share: by_share(VALUES, share), lambda _: 0.0, UNITS, 0.5)
    assert counts(found.selection.masks) == {"fc": 0}


@pytest.mark.parametrize(("cost", "apart"), [(0.0, False), (0.05, True)])
def test_layers_that_are_summed_stay_whole_where_that_leaves_the_smaller_network(cost: float, apart: bool) -> None:
    values = {"stream": np.arange(6.0), "inner": np.arange(40.0)}

    def accuracy(masks: Masks) -> float:
        gone = counts(masks)
        return 1.0 - cost * gone["stream"] - 0.001 * gone["inner"]

    def size(masks: Masks) -> float:
        return float(sum(mask.sum() for mask in masks.values()))

    found = smallest_share(by_share, values, Limits(), ["stream"], accuracy, LEAST, size)
    assert found.apart == apart
    gone = counts(found.point.selection.masks)
    assert accuracy(found.point.selection.masks) >= LEAST
    assert (gone["stream"] == 0) == apart
    assert gone["inner"] >= 30
    alone = smallest_share(by_share, values, Limits(), [], accuracy, LEAST, size)
    assert not alone.apart
    assert alone.tried == len(alone.points) < found.tried
    assert size(found.point.selection.masks) <= size(alone.point.selection.masks)
