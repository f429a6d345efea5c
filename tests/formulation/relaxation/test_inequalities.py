"""The stated inequalities, with symbols in place of linopy's variables: what duals on them sum to."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from formulation.relaxation.inequalities import POOL_FAMILIES, RELU_FAMILIES, Products, pool_duals, relu_duals
from tests.formulation.oracles import repeatable


@repeatable
@given(seed=st.integers(0, 10_000), cut=st.booleans())
def test_duals_on_a_relus_inequalities_sum_to_what_is_left_of_each_of_them_by_hand(seed: int, cut: bool) -> None:
    rng = np.random.default_rng(seed)
    h, phase, y, s, u, m = (Fraction(float(value)) for value in rng.normal(size=6))
    duals = {family: Fraction(float(value)) for family, value in zip(RELU_FAMILIES, rng.random(4), strict=True)}
    by_hand = [phase * u - h, h - y + (1 - s) * u, y - (1 - s) * u - (1 - phase) * m - h, s * u - h][: 3 + cut]
    found = relu_duals(duals, np.array(float(u)), np.array(float(m)), in_rationals, cut=cut)
    point = {"h": h, "open": phase, "y": y, "s": s, "": 1}
    assert sum(found[symbol] * point[symbol] for symbol in found) == sum(
        dual * left for dual, left in zip(duals.values(), by_hand, strict=False)
    )


@repeatable
@given(seed=st.integers(0, 10_000))
def test_duals_on_a_windows_inequalities_sum_to_what_is_left_of_each_of_them_by_hand(seed: int) -> None:
    rng = np.random.default_rng(seed)
    out, pick, h, slack, picks = (Fraction(float(value)) for value in rng.normal(size=5))
    duals = {family: Fraction(float(value)) for family, value in zip(POOL_FAMILIES, rng.normal(size=3), strict=True)}
    members, windows = pool_duals(duals, np.array(float(slack)), in_rationals)
    point = {"out": out, "pick": pick, "h": h, "picks": picks, "": 1}
    assert sum(members[symbol] * point[symbol] for symbol in members) == (
        duals["largest"] * (out - h) + duals["picked"] * (h + (1 - pick) * slack - out)
    )
    assert sum(windows[symbol] * point[symbol] for symbol in windows) == duals["one"] * (picks - 1)


def in_rationals(dual: Fraction, numbers: np.ndarray) -> Fraction:
    return dual * Fraction(float(numbers))


def test_no_coefficient_is_a_sum_that_rounds() -> None:
    """-u and -M stay two constants: added up in float64 they would not be what the duals are proved on."""
    tiny, huge = np.array([1e-30]), np.array([1e30])
    left = Products.of("y") - (1 - Products.of("s")) * huge - (1 - Products.of("open")) * tiny
    assert [float(np.ravel(numbers)[0]) for symbol, numbers in left.each if not symbol] == [-1e30, -1e-30]


@pytest.mark.parametrize("symbol", ["h", "open"])
def test_a_comparison_of_symbols_says_what_is_at_least_0(symbol: str) -> None:
    less, more = Products.of(symbol) <= 2.0, Products.of(symbol) >= 2.0
    assert dict(less.each) == {symbol: -1.0, "": 2.0}
    assert dict(more.each) == {symbol: 1.0, "": -2.0}
