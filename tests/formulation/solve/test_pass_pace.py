"""The pace of a pass: what was never measured is estimated, and cuts are made as long as there is time."""

from __future__ import annotations

import time

import numpy as np

from formulation.deadline import NEVER, Deadline
from formulation.solve.pass_pace import BACKWARD, PassPace

CUTS = np.arange(10)


def test_what_was_never_measured_is_estimated_from_a_pass_forwards() -> None:
    pace = PassPace().started()
    pace.passed(4.0, 2)
    assert (pace.batch, pace.seconds) == (4.0, 4.0)
    assert pace.loss_cut == pace.cut == BACKWARD * 4.0 / 2


def test_the_longest_batch_of_a_pass_counts_and_the_next_pass_begins_anew() -> None:
    pace = PassPace().started()
    for seconds in (1.0, 3.0, 2.0):
        pace.passed(seconds, 1)
    assert (pace.batch, pace.seconds) == (3.0, 6.0)
    pace.short = True
    pace.started().passed(0.5, 1)
    assert (pace.batch, pace.seconds, pace.short) == (0.5, 0.5, False)
    assert pace.loss_cut == BACKWARD  # of the first batch: once known, only a measurement changes it


def test_cuts_come_in_blocks_while_there_is_time() -> None:
    pace = PassPace().started()
    assert [len(block) for block in pace.blocks(CUTS, 4, NEVER)] == [4, 4, 2]
    assert not pace.short


def test_towards_the_deadline_blocks_get_smaller_and_then_none_is_made() -> None:
    pace = PassPace().started()
    pace.cut = 10.0
    soon = Deadline(60.0, time.monotonic() + 45.0)
    assert len(next(iter(pace.blocks(CUTS, 10, soon)))) == 2  # half of what fits
    assert list(pace.blocks(CUTS, 10, Deadline(60.0, time.monotonic()))) == []
    assert pace.short


def test_the_last_block_of_cuts_measures_their_pace() -> None:
    pace = PassPace().started()
    for _ in pace.blocks(CUTS[:2], 2, NEVER):
        time.sleep(0.02)
    assert 0.01 <= pace.cut < 5.0  # a busy machine may take longer
