"""SQLite databases of runs: never half made, made anew where provably nobody has used one, never changed otherwise."""

import os
import shutil
import socket
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows import tracking
from flows.errors import ArtifactError, StoreError
from flows.tracking.stores import databases
from flows.tracking.stores.databases import WRITING, State, state_of
from tests.busy import BUSY
from tests.flows.backends.commands import command
from tests.flows.tracking.stores.made import (
    TRIES,
    address,
    change,
    halves,
    make_as_mlflow_does,
    open_store,
    started,
    with_a_run,
)

NOBODY = 65534
OLDER = "acf3f17fdcc7"  # a schema of MLflow 2


@pytest.fixture(scope="module")
def half_made(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return halves(tmp_path_factory.mktemp("halves"))


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("used") / "mlflow.db"
    with_a_run(path)
    return path


def test_a_database_is_seen_as_half_made_at_every_moment_until_it_is_whole(half_made: list[Path]) -> None:
    found = [state_of(path) for path in half_made]
    assert len(found) > 100
    assert found[-1] is State.WHOLE
    assert set(found[:-1]) == {State.UNFINISHED}


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.9, 0.99])
def test_a_store_half_made_is_made_anew_when_it_is_opened(half_made: list[Path], tmp_path: Path, share: float) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(half_made[int(share * (len(half_made) - 1))], path)
    tracking.probe_store(address(path))
    store = tracking.open_store(address(path), "tests")
    assert MlflowClient(store.uri).get_experiment(store.experiment_id).name == "tests"
    assert {each.name for each in tmp_path.iterdir()} <= {"mlflow.db", ".mlflow.db.lock"}


@pytest.mark.slow
def test_the_same_command_goes_on_after_a_first_run_that_was_killed_while_mlflow_made_its_database(
    prefect_server: None, half_made: list[Path], tmp_path: Path
) -> None:
    shutil.copy(half_made[len(half_made) // 2], tmp_path / "mlflow.db")
    ended = command("train", tmp_path / "flow", address(tmp_path / "mlflow.db"), "none", model="fc2", epochs="1")
    assert ended.code == 0, ended.log
    assert "was left half made, and unused, by a first run: it is made anew" in ended.log


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_whatever_moment_a_first_run_is_killed_at_the_next_one_opens_the_store(tmp_path: Path) -> None:
    undisturbed = started(open_store, address(tmp_path / "undisturbed.db"))
    start = time.monotonic()
    undisturbed.join(TRIES)
    assert undisturbed.exitcode == 0
    longest, killed = time.monotonic() - start, 0
    for number in range(10):
        path = tmp_path / str(number) / "mlflow.db"
        process = started(open_store, address(path))
        time.sleep(longest * (number + 0.5) / 10)
        process.kill()
        process.join(TRIES)
        killed += process.exitcode != 0
        assert not path.exists() or state_of(path) is State.WHOLE, number
        again = started(open_store, address(path))
        again.join(TRIES)
        assert again.exitcode == 0, number
        assert not path.with_name(".mlflow.db.new").exists()
    assert killed >= 5


@pytest.mark.slow
def test_processes_that_open_a_new_store_at_once_get_the_same_one(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    several = [started(open_store, address(path)) for _ in range(4)]
    for each in several:
        each.join(TRIES)
    assert [each.exitcode for each in several] == [0] * 4
    names = [each.name for each in MlflowClient(address(path)).search_experiments()]
    assert sorted(names) == ["Default", "tests"]


@pytest.mark.slow
def test_a_server_that_is_just_making_its_database_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    server = started(make_as_mlflow_does, path)
    end = time.monotonic() + TRIES
    while not path.exists() or not path.stat().st_size:
        assert time.monotonic() < end
        time.sleep(0.01)
    number = path.stat().st_ino
    tracking.open_store(address(path), "tests")
    server.join(TRIES)
    assert server.exitcode == 0
    assert path.stat().st_ino == number, "the server's database was replaced"


def test_a_database_is_seen_at_one_moment_while_a_migration_makes_and_drops_tables(
    half_made: list[Path], tmp_path: Path
) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(half_made[len(half_made) // 2], path)
    ended = threading.Event()
    migration = threading.Thread(target=_migrate_until, args=(path, ended))
    migration.start()
    try:
        found = {state_of(path) for _ in range(300)}
    finally:
        ended.set()
        migration.join()
    assert found == {State.UNFINISHED}


def _migrate_until(path: Path, ended: threading.Event) -> None:
    while not ended.is_set():
        change(path, "CREATE TABLE _alembic_tmp_tags (key TEXT)")
        change(path, "DROP TABLE _alembic_tmp_tags")


def test_a_database_half_made_that_holds_a_run_is_left_as_it_is(used: Path, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(used, path)
    change(path, "DROP TABLE logged_models", f"UPDATE alembic_version SET version_num = '{OLDER}'")
    _require_refused(
        path, f"it has the schema {OLDER}, of an older MLflow or left half made by one", "mlflow db upgrade"
    )


@pytest.mark.parametrize("table", ["alembic_version", "metrics"])
def test_a_database_with_runs_that_lacks_a_table_is_left_as_it_is(used: Path, tmp_path: Path, table: str) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(used, path)
    change(path, f"DROP TABLE {table}")
    _require_refused(path, "it has the schema", "give another")


@pytest.mark.parametrize("runs", [True, False])
def test_a_database_of_a_newer_mlflow_is_left_as_it_is(
    used: Path, half_made: list[Path], tmp_path: Path, runs: bool
) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(used if runs else half_made[-1], path)
    change(path, "UPDATE alembic_version SET version_num = 'fedcba987654'", "CREATE TABLE later (number INTEGER)")
    _require_refused(path, "the schema fedcba987654", "does not know: it is a newer MLflow's; install that")


def test_somebody_elses_database_gets_no_tables_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    change(path, "CREATE TABLE orders (number INTEGER)", "INSERT INTO orders VALUES (1)")
    _require_refused(path, "it is a database of something else (with orders)", "give another file")


def test_a_table_of_somebody_elses_beside_half_of_ours_is_kept(half_made: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(half_made[50], path)
    change(path, "CREATE TABLE orders (number INTEGER)")
    _require_refused(path, "it has the schema", "give another")


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "text", "cut", "below a file", "name too long"])
def test_what_is_no_database_is_refused_in_one_line_and_left_as_it_is(used: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "mlflow.db"
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        match kind:
            case "folder":
                path.mkdir()
            case "pipe":
                os.mkfifo(path)
            case "socket":
                listener.bind(str(path))
            case "text":
                path.write_text("no database " * 1000)
            case "cut":
                path.write_bytes(used.read_bytes()[:20_000])
            case "below a file":
                path.write_text("")
                path = path / "mlflow.db"
            case "name too long":
                path = tmp_path / ("x" * 300)
        start = time.monotonic()
        for attempt in (tracking.probe_store, tracking.reach_store):
            with pytest.raises(StoreError, match=r"cannot be opened: ") as caught:
                attempt(address(path))
            assert "\n" not in str(caught.value)
        assert time.monotonic() - start < BUSY


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become nobody")
@pytest.mark.parametrize("kind", ["unreadable", "read only", "folder read only"])
def test_a_store_without_the_rights_to_it_is_refused_in_one_line(used: Path, kind: str) -> None:
    # Below the temporary folder itself: those of pytest are closed to others.
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    path = place / "mlflow.db"
    try:
        shutil.copy(used, path)
        path.chmod(0o600 if kind == "unreadable" else 0o644)
        if kind == "read only":
            place.chmod(0o777)
        start = time.monotonic()
        with _as_nobody(), pytest.raises(StoreError, match="cannot be opened: ") as caught:
            tracking.open_store(address(path), "tests")
        assert "\n" not in str(caught.value)
        assert time.monotonic() - start < BUSY
        assert path.read_bytes() == used.read_bytes()
    finally:
        shutil.rmtree(place)


@pytest.mark.slow
def test_a_store_that_another_process_never_lets_go_is_refused_in_one_line(used: Path, tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    shutil.copy(used, path)
    with closing(sqlite3.connect(path)) as holder:
        holder.execute("BEGIN EXCLUSIVE")
        start = time.monotonic()
        with pytest.raises(StoreError, match="database is locked"):
            tracking.probe_store(address(path))
        assert time.monotonic() - start < WRITING + BUSY


def test_an_empty_file_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.touch()
    assert tracking.open_store(address(path), "tests").experiment_id == "1"


def test_a_store_that_is_only_looked_at_is_not_made(tmp_path: Path) -> None:
    tracking.probe_store(address(tmp_path / "new" / "mlflow.db"))
    with pytest.raises(ArtifactError, match="there is no tracking store"):
        tracking.require_store(address(tmp_path / "mlflow.db"), "run_id=1")
    assert not list(tmp_path.iterdir())


def test_a_whole_store_is_opened_without_waiting(used: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "SETTLING", BUSY)
    start = time.monotonic()
    tracking.reach_store(address(used))
    assert time.monotonic() - start < BUSY


def _require_refused(path: Path, *words: str) -> None:
    before = path.read_bytes()
    for attempt in (tracking.probe_store, tracking.reach_store):
        with pytest.raises(StoreError) as caught:
            attempt(address(path))
        said = str(caught.value)
        assert said.startswith(f"tracking store {address(path)} cannot be opened: ")
        assert all(word in said for word in words), said
        assert "\n" not in said
    assert path.read_bytes() == before


@contextmanager
def _as_nobody() -> Iterator[None]:
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
