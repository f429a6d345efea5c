"""A battery of bad inputs: one line on stderr, the right exit code, nothing written, nothing running, in time."""

from __future__ import annotations

import importlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import closing
from pathlib import Path

import pytest

from flows.__main__ import main
from flows.config.entry_points import ENTRY_POINTS
from tests.flows.bad_inputs.table import BadInput, rows

ROOT = Path(__file__).resolve().parents[3]
SECONDS = 10.0  # for a bad input to be refused, on cores that are not shared with others
IMPORTS = 200.0  # seconds that a process of its own takes more, on a busy machine
ROWS = rows()


def _listed(place: Path) -> list[tuple[str, int, str]]:
    """Everything in a folder: its path, its size, and where it leads if it is a link."""
    return sorted(
        (os.fsdecode(os.fsencode(path)), 0 if path.is_dir() else path.lstat().st_size, _target(path))
        for path in place.rglob("*")
    )


def _target(path: Path) -> str:
    return str(path.readlink()) if path.is_symlink() else ""


def _words(row: BadInput, place: Path) -> list[str]:
    given = [word.replace("{place}", str(place)) for word in row.words]
    if given[0] not in ENTRY_POINTS or given[0] == "test":
        return given
    usual = {"--tracking_uri": f"sqlite:///{place}/mlflow.db", "--cache": f"{place}/cache"}
    return [given[0], *(word for each in usual.items() if each[0] not in given for word in each), *given[1:]]


def _environment(row: BadInput, place: Path) -> dict[str, str]:
    return {name: value.replace("{place}", str(place)) for name, value in row.environment.items()}


def _require_one_line(row: BadInput, code: int, said: str) -> None:
    assert code == row.code, said
    assert said.count("\n") == 1, said
    assert said.startswith("error: "), said
    assert said.strip().isprintable()
    assert row.says in said


def _running(place: Path) -> int:
    count = 0
    for path in place.rglob("*.db"):
        with closing(sqlite3.connect(path)) as store:
            count += store.execute("select count(*) from runs where status = 'RUNNING'").fetchone()[0]
    return count


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """What takes seconds to import is not part of any row's time."""
    importlib.import_module("flows.launch")


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.name, marks=[pytest.mark.slow] if row.slow else []) for row in ROWS]
)
def test_a_bad_input_ends_in_one_line_and_leaves_nothing(
    row: BadInput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    row.lay(tmp_path)
    for name, value in _environment(row, tmp_path).items():
        monkeypatch.setenv(name, value)
    if "TMPDIR" in row.environment:
        monkeypatch.setattr(tempfile, "tempdir", None)
    before = _listed(tmp_path)
    start = time.monotonic()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("default")
        warnings.simplefilter("ignore", DeprecationWarning)  # as Python does outside of __main__
        code = main(_words(row, tmp_path))
    taken = time.monotonic() - start
    _require_one_line(row, code, capfd.readouterr().err)
    assert [str(each.message) for each in warned] == []
    assert _listed(tmp_path) == before
    assert _running(tmp_path) == 0
    assert taken < SECONDS * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in ROWS if row.alone])
def test_a_bad_input_ends_a_process_of_its_own_in_one_line(row: BadInput, tmp_path: Path) -> None:
    row.lay(tmp_path)
    before = _listed(tmp_path)
    environment = os.environ | {"CRITICAL_NEURONS_CACHE": ""} | _environment(row, tmp_path)
    command = [sys.executable, "-m", "flows", *_words(row, tmp_path)]
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, stdin=subprocess.PIPE, text=True, check=False,
        timeout=SECONDS + IMPORTS,
    )  # fmt: skip
    _require_one_line(row, ended.returncode, ended.stderr)
    assert _listed(tmp_path) == before


def test_the_battery_has_120_inputs_of_different_names() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS) >= 120
    assert 5 <= sum(row.alone for row in ROWS) <= 8
