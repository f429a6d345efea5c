"""Commands that are killed, stopped or held at a seeded random moment come to what an undisturbed one comes to.

`python -m benchmarks.kills` tries many moments of all kinds, and prints a table. `main` is killed at every named point
by test_kill, and told to end by test_interruption.
"""

from pathlib import Path

import pytest

from benchmarks.kills import SMALLER, strike_often

TRIED = ("first", "score", "interrupted", "held")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("kind", TRIED)
def test_a_command_that_is_struck_at_a_random_moment_comes_to_what_an_undisturbed_one_comes_to(
    prefect_server: None, tmp_path: Path, kind: str
) -> None:
    # A seed whose moments all lie in the middle, for one near the end is drawn anew where the machine is faster.
    [found] = strike_often(tmp_path, kind, times=1, seed=488, job=SMALLER)
    assert found["faults"] == ()
