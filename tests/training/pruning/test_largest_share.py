"""The largest share that may go: what is found holds, the next one tried did not, and few are tried."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training import Masks, by_share, counts, largest_share
from training.pruning.largest_share import bisect_last

UNITS = 60
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
    assert found in tried


def test_where_nothing_tried_is_accurate_enough_nothing_goes() -> None:
    found, _ = largest_share(lambda share: by_share(VALUES, share), lambda _: 0.0, UNITS, 0.5)
    assert counts(found.selection.masks) == {"fc": 0}
