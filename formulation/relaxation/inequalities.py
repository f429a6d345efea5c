"""Inequalities of an unstable ReLU and an unstable max-pool window: stated once, for linopy and for duals alike.

Every function takes its symbols as anything that adds, multiplies with numbers and compares: linopy's variables and
expressions give constraints, `Products` the coefficients of what is at least 0. Beside these there are two statements
of their own: `verify.residuals`, which checks them, and the unreduced program of the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from formulation.network import Array

RELU_FAMILIES = ("closed", "above", "open", "cut")
POOL_FAMILIES = ("largest", "picked", "one")

Weighted = TypeVar("Weighted")


def relu_inequalities(h: Any, active: Any, y: Any, s: Any, u: Any, m: Any, *, cut: bool) -> Iterator[tuple[str, Any]]:
    """A gated ReLU, by family.

        h <= open u+                                (2)
        h >= y - (1 - s) u+                         (3)
        h <= y - (1 - s) u+ - (1 - open) M          (4)

    (1), h >= 0, is a bound of the variable.

    Args:
        h, active, y, s: symbols: the activation, its phase, its pre-activation, and its unit's score.
        u, m: u+ and M of its gate.
        cut: add h <= s u+, which only `exact` may: it holds where y <= u+ at every score.
    """
    yield "closed", h <= active * u  # (2)
    yield "above", h >= y - (1 - s) * u  # (3)
    yield "open", h <= y - (1 - s) * u - (1 - active) * m  # (4)
    if cut:
        yield "cut", h <= s * u


def split_relu_inequalities(h: Any, rest: Any, active: Any, y: Any, low: Any, high: Any) -> Iterator[tuple[str, Any]]:
    """(2) to (4) at s = 1 and M = l, y stated once: r = h - y turns (3) into r >= 0, a bound, and (4) into the last.

    Args:
        h, rest, active: symbols: the activation, r, and the phase.
        y: the pre-activation, an expression.
        low, high: bounds of y, l < 0 < u.
    """
    yield "split", h - rest - y == 0
    yield "closed", h - active * high <= 0
    yield "positive", rest - active * low <= -low


def pool_inequalities(out: Any, pick: Any, h: Any, slack: Any) -> Iterator[tuple[str, Any]]:
    """A max-pool window over its members h_j, by family.

        out >= h_j                              (5)
        out <= h_j + (1 - pick_j) slack_j       (6)

    Args:
        out, pick, h: symbols, over the members.
        slack: max_k u_k - l_j.
    """
    yield "largest", out >= h  # (5)
    yield "picked", out <= h + (1 - pick) * slack  # (6)


def one_is_picked(picks: Any) -> tuple[str, Any]:
    """The family of (7): a window's picks sum to 1."""
    return "one", picks == 1


@dataclass(frozen=True, eq=False)
class Products:
    """A sum of products of a symbol and float64 numbers, not added up, so that nothing rounds; the symbol "" is 1.

    A comparison gives the sum that it says is at least 0, or is 0.
    """

    each: tuple[tuple[str, Array], ...]

    @staticmethod
    def of(given: Any) -> Products:
        """A symbol by its name, or numbers."""
        if isinstance(given, Products):
            return given
        return Products(((given, np.ones(())),) if isinstance(given, str) else (("", np.asarray(given, dtype=float)),))

    def __add__(self, other: Any) -> Products:
        return Products((*self.each, *Products.of(other).each))

    def __neg__(self) -> Products:
        return Products(tuple((symbol, -numbers) for symbol, numbers in self.each))

    def __sub__(self, other: Any) -> Products:
        return self + -Products.of(other)

    def __rsub__(self, other: Any) -> Products:
        return Products.of(other) + -self

    def __mul__(self, numbers: Any) -> Products:
        return Products(tuple((symbol, np.asarray(own * numbers)) for symbol, own in self.each))

    def __le__(self, other: Any) -> Products:
        return Products.of(other) + -self

    def __ge__(self, other: Any) -> Products:
        return self + -Products.of(other)

    # A comparison makes an inequality here, as linopy's does, and no truth value.
    def __eq__(self, other: object) -> Products:  # type: ignore[override]
        return self + -Products.of(other)

    # Without equality there is no hash; the type of `object` has one.
    __hash__ = None  # type: ignore[assignment]


def relu_duals(
    duals: Mapping[str, Weighted],
    cap: Array,
    big_m: Array,
    times: Callable[[Weighted, Array], Weighted],
    *,
    cut: bool,
) -> dict[str, Weighted]:
    """Sum of dual times coefficient over a ReLU's inequalities, for each of `h`, `open`, `y`, `s` and "", the constant.

    Args:
        duals: by family, at least 0.
        cap, big_m: u+ and M.
        times: duals times numbers.
        cut: as in `relu_inequalities`.
    """
    h, active, y, s = (Products.of(symbol) for symbol in ("h", "open", "y", "s"))
    return _weighted(relu_inequalities(h, active, y, s, cap, big_m, cut=cut), duals, times)


def pool_duals(
    duals: Mapping[str, Weighted], slack: Array, times: Callable[[Weighted, Array], Weighted]
) -> tuple[dict[str, Weighted], dict[str, Weighted]]:
    """Sum of dual times coefficient over a window's inequalities, as `relu_duals` for ReLUs.

    Args:
        duals: by family, at least 0 but for that of (7).
        slack: max_k u_k - l_j, over the members j.
        times: duals times numbers.

    Returns:
        Over the members for `out`, `pick`, `h` and "", the constant; over the windows for `picks` and "".
    """
    out, pick, h = (Products.of(symbol) for symbol in ("out", "pick", "h"))
    of_members = _weighted(pool_inequalities(out, pick, h, slack), duals, times)
    return of_members, _weighted([one_is_picked(Products.of("picks"))], duals, times)


def _weighted(
    stated: Iterable[tuple[str, Products]],
    duals: Mapping[str, Weighted],
    times: Callable[[Weighted, Array], Weighted],
) -> dict[str, Weighted]:
    found: dict[str, Any] = {}
    for family, side in stated:
        for symbol, numbers in side.each:
            product = times(duals[family], numbers)
            found[symbol] = found[symbol] + product if symbol in found else product
    return found
