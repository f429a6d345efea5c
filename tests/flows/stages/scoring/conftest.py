"""A finished score run, and the store that holds it, put back after each forgery."""

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows import tracking
from tests.flows.small_run import PATTERN, RunStage
from tests.flows.stages.scoring.scored_store import ScoredStore


@pytest.fixture(scope="session")
def trained_briefly(run_stage: RunStage) -> str:
    return run_stage("train", epochs="3")


@pytest.fixture(scope="session")
def scored_store(run_stage: RunStage, client: MlflowClient, trained_briefly: str) -> ScoredStore:
    above = run_stage("score", run_id=trained_briefly, images_per_class="1", scoring_sets="2", gap="1e-3", **PATTERN)
    scored = tracking.find_stage(tracking.find_run(client.tracking_uri, above), "score")
    solved = sorted(scored.below("scoring set"), key=lambda run: run.tags()["scoring_set"])
    return ScoredStore(client, Path(client.tracking_uri.removeprefix("sqlite:///")), scored, solved[0])


@pytest.fixture
def forging(scored_store: ScoredStore, tmp_path: Path) -> Iterator[ScoredStore]:
    """The store, put back as it was after each forgery."""
    folders = [scored_store.folder(scored_store.scored), scored_store.folder(scored_store.solved)]
    for number, folder in enumerate(folders):
        shutil.copytree(folder, tmp_path / str(number))
    with sqlite3.connect(scored_store.database) as now, sqlite3.connect(tmp_path / "kept.db") as kept:
        now.backup(kept)
    yield scored_store
    with sqlite3.connect(scored_store.database, timeout=30) as now, sqlite3.connect(tmp_path / "kept.db") as kept:
        kept.backup(now)
    for number, folder in enumerate(folders):
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / str(number), folder)
