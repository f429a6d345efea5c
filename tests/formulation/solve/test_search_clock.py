"""The clock of a search: what is kept back of the time limit, and for how much a busy machine makes it."""

from __future__ import annotations

import time

import pytest

from formulation.deadline import Aftermath, Deadline
from formulation.solve.search_clock import DUAL_BOUND, HICCUP, LATE, MOST_SLOWDOWN, SearchClock


def clock(limit: float = 100.0, left: float = 100.0, **measured: float) -> SearchClock:
    made = SearchClock(Deadline(limit, time.monotonic() + left), Aftermath(1.0, 2.0, 3.0))
    for name, seconds in {"first_pass": 1.0, "last_pass": 1.0, "dual_bound_seconds": 4.0, **measured}.items():
        setattr(made, name, seconds)
    return made


def test_a_dual_bound_is_estimated_from_the_first_pass() -> None:
    made = clock()
    made.first_pass_ended()
    assert made.first_pass == made.last_pass > 0
    assert made.dual_bound_seconds == DUAL_BOUND * made.first_pass


def test_what_follows_is_kept_back_and_more_of_it_on_a_machine_that_got_busy() -> None:
    assert clock().afterwards == 1 + 2 * 1 + 3 * 4
    assert clock(last_pass=0.1).afterwards == 15
    assert clock(last_pass=2.0).afterwards == pytest.approx(15 * (2 + HICCUP) / (1 + HICCUP))
    assert clock(last_pass=1000.0).afterwards == MOST_SLOWDOWN * 15


def test_a_hiccup_in_a_pass_of_milliseconds_is_no_busy_machine() -> None:
    usual, slow = (clock(first_pass=0.002, last_pass=each, dual_bound_seconds=0.01) for each in (0.002, 0.05))
    assert slow.afterwards <= 1.2 * usual.afterwards


def test_a_solver_gets_what_is_left_less_a_dual_bound_and_a_pass() -> None:
    made = clock(limit=1000.0, left=1000.0, first_pass=100.0, last_pass=100.0)
    assert made.afterwards == 1 + 2 * 100 + 3 * 4
    assert made.working.remaining() == pytest.approx(1000 - 213 - 4, abs=20)
    assert made.solver_seconds == pytest.approx(1000 - 213 - 4 - 100, abs=20)


@pytest.mark.parametrize(("left", "there_is"), [(200.0, True), (145.0, True), (100.0, False)])
def test_the_last_dual_bound_may_be_a_little_late(left: float, there_is: bool) -> None:
    made = clock(limit=1000.0, left=left, dual_bound_seconds=40.0)
    assert made.afterwards + made.dual_bound_seconds == 163
    assert LATE * made.deadline.limit == 40
    assert made.leaves_last_dual_bound() == there_is
