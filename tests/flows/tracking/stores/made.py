"""Databases of runs in every state, made by MLflow itself, and processes that open one."""

import multiprocessing
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import mlflow.store.db.utils as mlflow_databases
from mlflow import MlflowClient
from sqlalchemy import event

from flows import tracking

TRIES = 60.0  # seconds that a process may take on busy cores


def address(path: Path) -> str:
    """The address of a database at a path."""
    return f"sqlite:///{path}"


def make_as_mlflow_does(path: Path, look: Callable[[], None] = lambda: None) -> None:
    """Make the tables of a database as MLflow makes them, in place; `look` is called after every statement."""
    tracking.settle_mlflow()
    engine = mlflow_databases.create_sqlalchemy_engine(address(path))
    event.listen(engine, "after_cursor_execute", lambda *_: look())
    mlflow_databases._initialize_tables(engine)
    engine.dispose()


def halves(place: Path) -> list[Path]:
    """Copies of a database at every moment of its making at which something had changed."""
    path, found, seen = place / "made.db", [], b""

    def look() -> None:
        nonlocal seen
        if path.read_bytes() != seen:
            seen = path.read_bytes()
            found.append(place / f"half_{len(found):03}.db")
            shutil.copy(path, found[-1])

    make_as_mlflow_does(path, look)
    look()
    return found


def change(path: Path, *statements: str) -> None:
    """Change a database behind MLflow's back."""
    with closing(sqlite3.connect(path)) as database:
        for statement in statements:
            database.execute(statement)
        database.commit()


def with_a_run(path: Path) -> str:
    """Make a database with a run in it; the run's id."""
    store = tracking.open_store(address(path), "tests")
    run = MlflowClient(store.uri).create_run(store.experiment_id)
    return str(run.info.run_id)


def started(work: Callable[..., Any], *given: Any) -> BaseProcess:
    """A process of its own at that work, forked from one that has imported what takes seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.flows.tracking.stores.made", "mlflow.store.tracking.sqlalchemy_store"])
    process = context.Process(target=work, args=given)
    process.start()
    return process


def open_store(uri: str) -> None:
    """Open a store as a flow does."""
    tracking.open_store(uri, "tests")
