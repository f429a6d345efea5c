"""Flows at the same time in one store: every one is there, whole, once, and as if it had been alone."""

from collections import Counter
from pathlib import Path

import pytest

from tests.flows.backends.commands import QUICK, command, two_at_a_time
from tests.flows.resume.snapshot import Seen, differences, snapshots
from tests.flows.small_run import store_in

# The first two are the same command at the same time, on a store that neither finds there.
FOUR = ("0", "0", "1", "0")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_four_flows_two_at_a_time_in_one_sqlite_store_are_four_complete_runs(
    prefect_server: None, tmp_path: Path
) -> None:
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    ended = two_at_a_time(tmp_path / "flows", store, tmp_path / "cache", FOUR)
    assert [(each.code, each.errors) for each in ended] == [(0, [])] * len(FOUR), ended
    assert not [each.log for each in ended if "Traceback" in each.log]
    require_complete(store, FOUR, tmp_path)


def require_complete(store: str, seeds: tuple[str, ...], place: Path) -> None:
    """Fail where a store's runs are not, seed by seed, what main comes to alone; or where work was done twice."""
    alone = {seed: _alone(place / "alone" / seed, seed) for seed in sorted(set(seeds))}
    found = snapshots(store)
    assert Counter(_seed(runs) for runs in found.values()) == Counter(seeds)
    for run_id, runs in found.items():
        assert not differences(alone[_seed(runs)], runs), run_id
    assert _counts(place / "flows") == _counts(place / "alone")


def _alone(place: Path, seed: str) -> dict[str, Seen]:
    store = store_in(place)
    assert command("main", place, store, place / "cache", **QUICK, seed=seed).code == 0
    [runs] = snapshots(store).values()
    return runs


def _seed(runs: dict[str, Seen]) -> str:
    [top] = [runs[way] for way in runs if "/" not in way]
    return top.params["seed"]


def _counts(place: Path) -> Counter[str]:
    return Counter(name for counts in place.glob("*/counts") for name in counts.read_text().split())
