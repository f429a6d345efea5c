"""Calls side by side on threads: order, limit, progress, and what happens to those that fail."""

import logging
from pathlib import Path

import pytest
from distributed.protocol.pickle import dumps, loads
from prefect import Task

from flows.adapters.core_locks import cores
from flows.errors import ServerError, SettingsError
from flows.execution import tasks
from flows.execution.mapping import map_tasks
from flows.execution.runners import require_runner, workers_of
from formulation import SolverFailed
from tests.flows.execution.runners import trials


def test_results_are_in_the_order_of_the_calls_and_progress_is_told_of_each(
    prefect_server: None, tmp_path: Path
) -> None:
    told: list[tuple[int, int, str]] = []
    settings = trials.settings(tmp_path, workers="2")
    calls = [(settings, str(tmp_path), number, 0.2 / (1 + number)) for number in range(4)]
    names = [f"set {number}" for number in range(4)]
    found = map_tasks(settings, trials.rest, calls, names=names, progress=lambda *each: told.append(each))
    assert found == [0, 10, 20, 30]
    assert [each[:2] for each in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert sorted(name for *_, name in told) == names


def test_never_more_calls_are_at_work_than_cores_or_workers(prefect_server: None, tmp_path: Path) -> None:
    for workers, expected in (("1", 1), ("100", len(cores()))):
        place = tmp_path / workers
        place.mkdir()
        settings = trials.settings(tmp_path, workers=workers)
        assert workers_of(settings) == expected
        calls = [(settings, str(place), number, 0.3) for number in range(2 * expected)]
        map_tasks(settings, trials.rest, calls, names=["a call"] * len(calls))
        assert trials.at_once([each[1:3] for each in trials.intervals(place)]) == expected


def test_threads_of_a_program_count_as_cores_and_the_log_says_once_that_workers_are_fewer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = trials.settings(tmp_path, workers="100", threads=str(len(cores())))
    assert workers_of(settings) == 1
    with caplog.at_level(logging.INFO, "flows"):
        require_runner(settings, "")
    has, takes = f"this machine has {len(cores())} cores", f"each program takes threads={len(cores())}"
    assert [each.getMessage() for each in caplog.records] == [f"workers  1 instead of 100: {has}, and {takes}"]


def test_a_call_that_fails_is_tried_once_more_alone_when_the_others_have_ended(
    prefect_server: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = trials.settings(tmp_path)
    calls = [(settings, str(tmp_path), number, times, "solver") for number, times in enumerate((1, 0, 0))]
    with caplog.at_level(logging.INFO, "flows.execution.mapping"):
        assert map_tasks(settings, trials.fail, calls, names=["conv1", "conv2", "conv3"]) == [0, 10, 20]
    tries = trials.intervals(tmp_path)
    assert sorted(each[0] for each in tries) == [0, 0, 1, 2]
    assert tries[-1][0] == 0
    [line] = [record.getMessage() for record in caplog.records if record.name == "flows.execution.mapping"]
    assert line == "workers  conv1: tried again, alone: try 1 of call 0"


def test_one_that_fails_twice_is_named_by_its_own_kind_of_error_and_all_others_are_done(
    prefect_server: None, tmp_path: Path
) -> None:
    settings = trials.settings(tmp_path)
    calls = [(settings, str(tmp_path), number, times, "solver") for number, times in enumerate((0, 9, 9, 0))]
    with pytest.raises(SolverFailed, match=r"^conv1, set 1: try 2 of call 1; so did conv1, set 2$"):
        map_tasks(settings, trials.fail, calls, names=[f"conv1, set {number}" for number in range(4)])
    assert sorted(each[0] for each in trials.intervals(tmp_path)) == [0, 1, 1, 2, 2, 3]


def test_an_error_that_nobody_can_mend_says_where_it_was_in_a_note(prefect_server: None, tmp_path: Path) -> None:
    settings = trials.settings(tmp_path)
    with pytest.raises(ArithmeticError) as raised:
        map_tasks(settings, trials.fail, [(settings, str(tmp_path), 1, 9, "other")], names=["set 1"])
    assert raised.value.__notes__ == ["This was set 1."]


def test_an_error_that_would_be_the_same_again_is_not_tried_again(prefect_server: None, tmp_path: Path) -> None:
    settings = trials.settings(tmp_path)
    with pytest.raises(SettingsError, match=r"^set 1: try 1 of call 1$"):
        map_tasks(settings, trials.fail, [(settings, str(tmp_path), 1, 1, "settings")], names=["set 1"])
    assert len(trials.intervals(tmp_path)) == 1


def test_a_call_whose_prefect_server_went_away_is_not_tried_again_and_says_so(
    prefect_server: None, tmp_path: Path
) -> None:
    settings = trials.settings(tmp_path)
    with pytest.raises(ServerError, match=r"^set 1: Prefect server http://.* went away in the middle \(ConnectError\)"):
        map_tasks(settings, trials.fail, [(settings, str(tmp_path), 1, 1, "server")], names=["set 1"])
    assert len(trials.intervals(tmp_path)) == 1


@pytest.mark.parametrize("name", [name for name, each in vars(tasks).items() if isinstance(each, Task)])
def test_every_task_can_be_sent_to_another_process(name: str) -> None:
    sent = loads(dumps(vars(tasks)[name].fn))
    assert sent.__name__ == vars(tasks)[name].fn.__name__
