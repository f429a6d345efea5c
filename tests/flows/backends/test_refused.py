"""Stores and folders that cannot be used, and disks that are full: one line with the remedy, and nothing is lost."""

import time
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.busy import BUSY
from tests.flows.backends.commands import NO_TROUBLE, Ended, command
from tests.flows.resume.killed import Trouble

SOON = 15.0 + BUSY  # seconds, with those in which the process is made that others are forked from
WORDS = {"model": "fc2", "epochs": "1"}
# A hidden layer so wide that its weights alone are larger than a store.
WIDE = """
from torch import nn

def wide():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 4000), nn.ReLU(), nn.Linear(4000, 10))
"""


def _train(
    place: Path, store: Path | str, cache: Path | str = "none", trouble: Trouble = NO_TROUBLE, **words: str
) -> Ended:
    return command("train", place, f"sqlite:///{store}", cache, trouble, **WORDS | words)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder nobody can make", "file nobody can make", "folder", "no database"])
def test_a_store_that_cannot_be_written_to_is_refused_before_any_work(
    prefect_server: None, tmp_path: Path, kind: str
) -> None:
    store = {
        "folder nobody can make": "/proc/no/mlflow.db",
        "file nobody can make": "/proc/x.db",
        "folder": str(tmp_path),
        "no database": str(tmp_path / "text"),
    }[kind]
    (tmp_path / "text").write_text("no database " * 100)
    start = time.monotonic()
    ended = _train(tmp_path / "flow", store)
    assert time.monotonic() - start < SOON, ended.log
    assert ended.is_refused_in_one_line(), ended.log
    assert ended.errors[0].startswith(f"error: tracking store sqlite:///{store} cannot be opened: ")
    assert ended.errors[0].endswith("see tracking_uri")
    assert not (tmp_path / "flow" / "counts").exists()


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_to_is_refused_before_a_store_is_made(
    prefect_server: None, tmp_path: Path
) -> None:
    ended = _train(tmp_path / "flow", tmp_path / "mlflow.db", cache="/proc/x")
    assert ended.is_refused_in_one_line(), ended.log
    assert "error: cache=/proc/x: cannot be written to" in ended.errors[0]
    assert "cache=none" in ended.errors[0]
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.slow
def test_a_run_of_another_store_is_refused_with_the_way_to_name_it(prefect_server: None, tmp_path: Path) -> None:
    for name in ("one", "other"):
        assert _train(tmp_path / name, tmp_path / f"{name}.db").code == 0
    [log] = [(tmp_path / "one" / "log").read_text()]
    run_id = log.rpartition("done     run ")[2].split()[0]
    ended = command("score", tmp_path / "score", f"sqlite:///{tmp_path / 'other.db'}", "none", run_id=run_id)
    assert ended.is_refused_in_one_line(), ended.log
    assert f"run_id={run_id}: no such run in sqlite:///{tmp_path / 'other.db'}" in ended.errors[0]
    assert "tracking_uri" in ended.errors[0]


@pytest.mark.slow
def test_a_full_disk_under_the_cache_is_named_and_the_same_command_goes_on(
    prefect_server: None, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(WIDE)
    store, model = tmp_path / "mlflow.db", f"{tmp_path / 'own.py'}:wide"
    full = Trouble(largest=8 * 2**20)
    ended = _train(tmp_path / "flow", store, tmp_path / "cache", full, model=model)
    assert ended.is_refused_in_one_line(), ended.log
    assert "train: nothing more can be written" in ended.errors[0]
    assert str(tmp_path / "cache") in ended.errors[0]
    assert "same command" in ended.errors[0]
    again = _train(tmp_path / "flow", store, tmp_path / "cache", model=model)
    assert again.code == 0, again.log
    _require_all_finished(store)


@pytest.mark.slow
def test_a_full_disk_under_the_store_is_named_and_the_same_command_goes_on(
    prefect_server: None, tmp_path: Path
) -> None:
    store, cache = tmp_path / "mlflow.db", tmp_path / "cache"
    assert _train(tmp_path / "before", store, "none", seed="1").code == 0
    # Room for the run and its stage, not for all of their figures.
    full = Trouble(largest=store.stat().st_size + 4096)
    ended = _train(tmp_path / "flow", store, cache, full, epochs="60")
    assert ended.is_refused_in_one_line(), ended.log
    assert f"tracking store sqlite:///{store} cannot be" in ended.errors[0]
    again = _train(tmp_path / "flow", store, cache, epochs="60")
    assert again.code == 0, again.log
    assert (tmp_path / "flow" / "counts").read_text().split().count("fit") == 1, "training was not kept"
    _require_all_finished(store)


def _require_all_finished(store: Path) -> None:
    found = MlflowClient(f"sqlite:///{store}").search_runs(["1"])
    assert {run.info.run_name: run.info.status for run in found if run.info.status != "FINISHED"} == {}
