"""Rows of the speed benchmark: kept under all that they depend on, and an error in place of one that fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import speed, speed_rows
from benchmarks.speed_rows import Found, Place


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Place]:
    """Where the one row of the benchmark was measured; its figure is the seed."""
    places: list[Place] = []

    def measure(place: Place) -> Found:
        places.append(place)
        return {"seed": float(place.seed)}

    row = speed.Row("a row", "imports", measure, lambda found: iter([("seed", str(found["seed"]), "", True)]))
    monkeypatch.setattr(speed, "ROWS", (row,))
    return places


def test_a_row_is_measured_once_for_each_seed_and_place(
    asked: list[Place], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--place", str(tmp_path / "kept"), "--data_root", str(tmp_path), "--cache", str(tmp_path)]
    for more, times in (([], 1), (["--seed", "1"], 2), (["--colour", "folder:a"], 3), ([], 3), (["--seed", "1"], 3)):
        assert speed.main([*words, *more]) == 0
        assert len(asked) == times
    assert capsys.readouterr().out.splitlines()[-1] == "| seed | 1.0 |  | yes |"
    assert speed.main([*words, "--cache", str(tmp_path / "other")]) == 0
    assert speed.main([*words, "--data_root", str(tmp_path / "other")]) == 0
    assert len(asked) == 5


def test_a_row_whose_process_fails_is_said_and_the_next_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed_rows, "BEYOND_TORCH", "raise SystemExit(3)")
    row = next(row for row in speed.ROWS if row.name == "imports")
    monkeypatch.setattr(speed, "ROWS", (row,))
    assert speed.main(["--place", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert "imports: failed (CalledProcessError: " in said.err
    assert said.out.splitlines() == speed.HEAD.splitlines()


def test_a_command_that_ends_before_its_first_line_is_no_fast_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flows.py").write_text("raise SystemExit(3)")
    monkeypatch.setattr(speed_rows, "ROOT", tmp_path)
    assert subprocess.run([sys.executable, "-m", "flows"], cwd=tmp_path, check=False).returncode == 3
    with pytest.raises(ValueError, match="without a first line"):
        speed_rows.first_line(Place(tmp_path, tmp_path, "", 0))


def test_a_refit_is_measured_in_a_process_of_its_own() -> None:
    found = speed_rows.refitted("fc2", 50)
    assert 0.0 < found["refit"] < 60.0
    assert 1e8 < found["peak"] < 1e10
