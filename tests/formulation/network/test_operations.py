"""Operations of a lowered network: each computes hand-computed numbers by itself."""

from __future__ import annotations

import numpy as np

from formulation.network import MaxPool


def test_a_maximum_below_zero_is_not_raised_to_that_of_the_padding() -> None:
    np.testing.assert_array_equal(MaxPool(np.array([[-1, 0]])).apply(np.array([[-7.0]])), [[-7.0]])
