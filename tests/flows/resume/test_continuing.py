"""Runs that a flow and its stages go on in, on a real store."""

from dataclasses import replace

import mlflow
import pytest
from mlflow import MlflowClient

from flows import tracking
from flows.tracking import Run
from flows.tracking.stores import Store

COMMAND = "the command"


class Interrupted(BaseException):
    """What Ctrl-C raises, without its effect on pytest."""


def _flow(store: Store, *, resume: bool = True, interrupt: bool = False, identity: str = COMMAND) -> tuple[Run, Run]:
    """A flow with one stage; their runs."""
    runs: list[Run] = []
    try:
        with tracking.open_flow_run(store, "flow", {}, identity, resume=resume) as top:
            runs.append(top)
            with tracking.open_run(top, "stage", {"stage": "stage"}, "the stage") as stage:
                runs.append(stage)
                if interrupt:
                    raise Interrupted
    except Interrupted:
        pass
    return runs[0], runs[1]


def _status(run: Run) -> str:
    return MlflowClient(run.uri).get_run(run.run_id).info.status


def test_an_interrupted_flow_goes_on_in_its_own_runs(store: Store) -> None:
    before = _flow(store, interrupt=True)
    assert [_status(run) for run in before] == ["KILLED", "KILLED"]
    after = _flow(store)
    assert after == before
    assert [_status(run) for run in after] == ["FINISHED", "FINISHED"]
    assert len(MlflowClient(store.uri).search_runs([store.experiment_id])) == 2
    assert mlflow.active_run() is None


def test_a_finished_flow_another_command_and_one_that_may_not_resume_get_runs_of_their_own(store: Store) -> None:
    finished = _flow(store)
    interrupted = _flow(store, interrupt=True, identity="another")
    tops = {each[0].run_id for each in (finished, interrupted, _flow(store), _flow(store, identity="third"))}
    assert len(tops) == 4
    assert _flow(store, resume=False, identity="another")[0].run_id not in tops


def test_a_finished_stage_stays_as_it_is(store: Store) -> None:
    client = MlflowClient(store.uri)
    with tracking.open_flow_run(store, "flow", {}, COMMAND) as top:
        with tracking.open_run(top, "stage", {}, "the stage") as first:
            pass
        ended = client.get_run(first.run_id).info.end_time
        with tracking.open_run(top, "stage", {}, "the stage") as again:
            assert again == first
            assert _status(again) == "FINISHED"
        with tracking.open_run(top, "stage", {}, "another") as other:
            assert other != first
    assert client.get_run(first.run_id).info.end_time == ended
    assert len(client.get_metric_history(first.run_id, "seconds")) == 1


def test_under_mlflow_run_the_stages_move_to_the_run_that_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(store.uri)
    old, stage = _flow(store, interrupt=True)
    given = client.create_run(store.experiment_id).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    new, moved = _flow(replace(store, run_id=given))
    assert new.run_id == given != old.run_id
    assert moved == stage
    assert client.get_run(stage.run_id).data.tags["mlflow.parentRunId"] == given
    left = client.get_run(old.run_id)
    assert left.info.status == "KILLED"
    assert left.data.tags["continued_by"] == given
    assert given in left.data.tags["mlflow.note.content"]
    assert _flow(store)[0].run_id not in (old.run_id, given)
