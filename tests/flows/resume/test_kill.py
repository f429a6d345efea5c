"""kill -9 at every named point, one after another in one command: nothing finished is done again, nothing is lost."""

import signal
from collections import Counter
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL

from tests.flows.resume.killed import POINTS, Trouble, run, work_done
from tests.flows.resume.snapshot import differences, snapshot
from tests.flows.small_run import SMALL, store_in

WORDS = SMALL | {"model": "fc2", "export": "none"}

# What a kill between its end and its record's seal takes away: two trainings, one draw, one compaction; never a solve.
LOST = Counter({"fit": 2, "draw_sets": 1, "compact": 1})


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_command_killed_at_every_point_comes_to_what_an_undisturbed_one_comes_to(
    prefect_server: None, tmp_path: Path
) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert _run("none", undisturbed) == 0
    for point in POINTS:
        assert _run(point, killed) == -signal.SIGKILL, (point, (killed / "log").read_text()[-2000:])
    assert _run("none", killed) == 0, (killed / "log").read_text()[-2000:]
    assert not differences(snapshot(store_in(undisturbed)), snapshot(store_in(killed)))
    assert work_done(killed) == work_done(undisturbed) + LOST


def _run(point: str, place: Path) -> int | None:
    place.mkdir(exist_ok=True)
    words = [word for name, value in WORDS.items() for word in (f"--{name}", value)]
    environment = {
        "PREFECT_API_URL": PREFECT_API_URL.value(),
        "OMP_NUM_THREADS": "1",
        "CRITICAL_NEURONS_CACHE": str(place / "cache"),
    }
    return run(Trouble(point), place, ["main", *words, "--tracking_uri", store_in(place)], environment)
