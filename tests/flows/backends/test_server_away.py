"""A tracking server that is away at the start, or goes away in the middle: one line, and nothing is lost."""

import time
from pathlib import Path

import pytest

from tests.busy import BUSY
from tests.flows.backends.commands import QUICK, command
from tests.flows.backends.servers import free_port, tracking_server
from tests.flows.resume.killed import Trouble, work_done
from tests.flows.resume.snapshot import differences, snapshot
from tests.flows.small_run import store_in

AT_THE_START, IN_THE_MIDDLE = 15.0 + BUSY, 60.0 + BUSY  # seconds until a command gives up


@pytest.mark.slow
def test_a_server_that_is_away_at_the_start_is_refused_in_one_line_and_soon(
    prefect_server: None, tmp_path: Path
) -> None:
    # The first command waits for the process that others are forked from.
    assert command("train", tmp_path / "refused", f"sqlite:///{tmp_path}", "none").code == 2
    store, start = f"http://127.0.0.1:{free_port()}", time.monotonic()
    ended = command("train", tmp_path / "flow", store, "none", model="fc2", epochs="1")
    assert time.monotonic() - start < AT_THE_START
    assert ended.is_refused_in_one_line(), ended.log
    assert ended.errors[0].startswith(f"error: tracking store {store} cannot be opened: ")
    assert ended.errors[0].endswith("tracking_uri")
    assert len(ended.errors[0]) < 600


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_server_killed_in_the_middle_of_scoring_loses_nothing(prefect_server: None, tmp_path: Path) -> None:
    flow, cache = tmp_path / "flow", tmp_path / "cache"
    with tracking_server(tmp_path / "server", store_in(tmp_path, "server.db")) as server:
        ended = command("main", flow, server.uri, cache, Trouble("checking", server.group), **QUICK)
        gone = time.time() - (flow / "killed").stat().st_mtime
        assert ended.is_refused_in_one_line(), ended.log
        assert gone < IN_THE_MIDDLE, ended.log
        assert server.uri in ended.errors[0]
        assert "the same command" in ended.errors[0]
        assert len(list((cache / "score_set").iterdir())) == 2, "the solution was not kept"
        server.kill()
        server.start()
        again = command("main", flow, server.uri, cache, **QUICK)
        assert again.code == 0, again.log
        after = snapshot(server.uri)
    alone = tmp_path / "alone"
    undisturbed = store_in(alone)
    assert command("main", alone, undisturbed, alone / "cache", **QUICK).code == 0
    assert not differences(snapshot(undisturbed), after)
    assert work_done(flow) == work_done(alone)
