"""Means over repetitions and how far they are known."""

import pytest

from flows.reporting.estimates import estimate


def test_an_interval_is_that_of_students_table() -> None:
    # 4.3027 is the 97.5 % quantile with two degrees of freedom; 1, 2, 3 have a standard deviation of 1.
    known = estimate([1.0, 2.0, 3.0])
    assert known.mean == 2.0
    assert known.stderr == pytest.approx(3**-0.5)
    assert (known.low, known.high) == pytest.approx((2 - 4.3027 * 3**-0.5, 2 + 4.3027 * 3**-0.5), abs=1e-4)
    assert set(known.metrics("gain")) == {"gain_mean", "gain_stderr", "gain_low", "gain_high"}


def test_one_value_has_a_mean_and_nothing_else() -> None:
    known = estimate([0.25])
    assert known.metrics("gain") == {"gain_mean": 0.25}
    assert (known.in_percent(), known.in_points()) == ("25.00", "+25.00")


def test_words_are_in_percent_with_sign_and_interval_for_a_difference() -> None:
    known = estimate([-0.01, -0.01, -0.01, -0.01])
    assert known.in_percent() == "-1.00 (0.00)"
    assert known.in_points() == "-1.00 [-1.00, -1.00]"
