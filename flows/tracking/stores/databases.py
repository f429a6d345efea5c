"""SQLite databases of runs: looked at before MLflow changes one, and whole before they are there."""

import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from enum import Enum
from pathlib import Path
from tempfile import TemporaryFile
from urllib.parse import quote

import mlflow.store.db.utils as mlflow_databases
from filelock import FileLock
from mlflow.store.db.base_sql_model import Base

from flows.errors import StoreError
from flows.tracking.stores.addresses import SQLITE
from flows.tracking.stores.schemas import require_own, revisions

LOG = logging.getLogger(__name__)
OPENING, WRITING = 60.0, 20.0  # seconds that another process may take to make a new database; to write to one
SETTLING, LOOKING = 5.0, 0.5  # seconds without a change after which nobody is at making it; between two looks
VERSION = "alembic_version"
PASSING = ("_alembic_tmp_", VERSION, "sqlite_")  # names of what belongs to a migration or to SQLite
# What a database has before anybody has used it.
SEEDS = {"experiments": "experiment_id = 0 AND name = 'Default'", "workspaces": "name = 'default'"}


class State(Enum):
    """What is at the path of a database: nothing, one that can be used, or one half made that nobody has used."""

    MISSING = "missing"
    WHOLE = "whole"
    UNFINISHED = "unfinished"


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """The database at a path, whole and writable, and the right to open it; made where there is none.

    Two processes that make the tables of one database at once leave half of them, and so does one that is killed. So
    one process at a time makes it, under another name, and it gets its own when it is whole.
    Raises StoreError, OSError and sqlite3.Error.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A lock would be waited for where no file can be made.
    with TemporaryFile(dir=path.parent):
        pass
    with FileLock(path.with_name(f".{path.name}.lock"), timeout=OPENING):
        _make_whole(path)
        # MLflow tries a database that cannot be written to for half an hour.
        with closing(_connected(path)) as database:
            database.execute("BEGIN IMMEDIATE")
        yield


def state_of(path: Path) -> State:
    """What is at a path; nothing is changed.

    Raises StoreError for what is there and is no database that the installed MLflow may write to; OSError and
    sqlite3.Error where it cannot be read.
    """
    _require_rights(path)
    if not path.exists() or not path.stat().st_size:
        return State.MISSING
    with closing(_connected(path)) as database:
        # One look: between two, whoever is making it may drop a table that the first has seen.
        database.execute("BEGIN")
        found = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")}
        if not found:
            return State.MISSING
        complete = found >= set(Base.metadata.tables)
        revision = _revision(database, found)
        if complete and revision == revisions()[0]:
            return State.WHOLE
        others = {name for name in found if name not in Base.metadata.tables and not name.startswith(PASSING)}
        if others == found - {VERSION}:
            names = ", ".join(sorted(others)[:3])
            raise _refused(path, f"it is a database of something else (with {names}); give another file")
        known = not revision or revision in revisions()
        if known and not others and not any(_is_used(database, name) for name in found):
            return State.UNFINISHED
    require_own(revision, complete, f"{SQLITE}{path}")
    return State.WHOLE


def _require_rights(path: Path) -> None:
    if path.is_dir():
        raise _refused(path, f"it is a folder; give a file in it, such as {SQLITE}{path / 'mlflow.db'}")
    if path.exists() and not path.is_file():
        raise _refused(path, "it is no file")
    above = next(each for each in path.parents if each.exists())
    if not above.is_dir():
        raise _refused(path, f"{above} is no folder")
    for each in (path, above) if path.exists() else (above,):
        if not os.access(each, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise _refused(path, f"{each} may not be read and written to")


def _settled(path: Path) -> State:
    """What is at a path once nobody changes it: a server that is just starting makes its database as well."""
    state, seen, since = state_of(path), _marks(path), time.monotonic()
    while state is State.UNFINISHED and time.monotonic() - since < SETTLING:
        time.sleep(LOOKING)
        state, marks = state_of(path), _marks(path)
        if marks != seen:
            seen, since = marks, time.monotonic()
    return state


def _marks(path: Path) -> tuple[int, int] | None:
    if not path.exists():
        return None
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _make_whole(path: Path) -> None:
    """Make a database where there is none, or half of one: a kill leaves what was there before, or a whole one."""
    state, marks = _settled(path), _marks(path)
    if state is State.WHOLE:
        return
    draft = _draft(path)
    # A server that does not know of the lock may have begun one since.
    if _marks(path) != marks:
        state = _settled(path)
    if state is State.UNFINISHED:
        LOG.info("store    %s was left half made, and unused, by a first run: it is made anew", path)
    if state is State.WHOLE:
        draft.unlink()
    elif path.exists():
        draft.replace(path)
    else:
        _appear(draft, path)


def _draft(path: Path) -> Path:
    """A whole database under another name beside the one that it is to get."""
    draft = path.with_name(f".{path.name}.new")
    for leftover in (draft, draft.with_name(f"{draft.name}-journal")):
        leftover.unlink(missing_ok=True)
    engine = mlflow_databases.create_sqlalchemy_engine(f"{SQLITE}{draft}")
    mlflow_databases._initialize_tables(engine)
    engine.dispose()
    with draft.open("rb") as file:
        os.fsync(file.fileno())
    return draft


def _appear(draft: Path, path: Path) -> None:
    """Give a draft its name, unless somebody else has it by now: only a link takes nobody's place."""
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        LOG.info("store    %s has been made by another process since", path)
    except OSError:
        # There are file systems without links.
        draft.replace(path)
    draft.unlink(missing_ok=True)


def _connected(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=rw", timeout=WRITING, uri=True)


def _revision(database: sqlite3.Connection, found: set[str]) -> str:
    rows = database.execute(f"SELECT version_num FROM {VERSION}").fetchall() if VERSION in found else []
    return str(rows[0][0]) if rows else ""


def _is_used(database: sqlite3.Connection, name: str) -> bool:
    """Whether a table holds a row that MLflow has not put there when it made it."""
    if name.startswith(PASSING[1:]):
        return False
    usual = SEEDS.get(name.removeprefix(PASSING[0]), "0")
    return database.execute(f'SELECT 1 FROM "{name}" WHERE NOT ({usual}) LIMIT 1').fetchone() is not None


def _refused(path: Path, reason: str) -> StoreError:
    return StoreError(f"tracking store {SQLITE}{path} cannot be opened: {reason}; see tracking_uri")
