"""Random faults in the cache and in a finished run: harmless, or named and done again; scores never differ."""

from pathlib import Path

import pytest

from benchmarks.faults import DIFFERENT, FOREIGN, tried


def try_faults(place: Path, faults: int, seed: int) -> None:
    trials = list(tried(place, faults, seed))
    assert len(trials) == faults
    assert [trial for trial in trials if trial.outcome in (DIFFERENT, FOREIGN)] == []


def test_a_few_random_faults_change_no_score(tmp_path: Path) -> None:
    try_faults(tmp_path, faults=2, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_many_random_faults_change_no_score(tmp_path: Path) -> None:
    try_faults(tmp_path, faults=16, seed=2)
