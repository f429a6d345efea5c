"""The command that repeats tests on a busy machine: what fails in some rounds only is counted."""

from pathlib import Path

import pytest

from benchmarks.flakiness import main

NOW_AND_THEN = """
from pathlib import Path

def test_that_passes_once():
    seen = Path(__file__).with_name("seen")
    before = seen.exists()
    seen.touch()
    assert not before

def test_that_passes():
    pass
"""


@pytest.mark.slow
def test_a_test_that_fails_now_and_then_is_named_with_how_often(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tests = tmp_path / "test_now_and_then.py"
    tests.write_text(NOW_AND_THEN)
    words = ["--place", str(tmp_path / "rounds"), "--marks", "not slow", str(tests)]
    assert main(["--times", "1", *words]) == 0
    assert main(["--times", "3", *words]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("| test_now_and_then::test_that_passes_once | 3 | 2 |") for line in lines)
    assert not any("test_that_passes |" in line for line in lines)
    # The first round was not done again.
    assert sum(line.startswith("00.xml") for line in lines) == 1
