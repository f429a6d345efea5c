"""The benchmark beside a peer, on a network that takes little time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch_pruning", reason="needs requirements-dev.txt")

from benchmarks.peers import apart, read_output

ALONE = ["--cache", "", "--alone"]


def test_a_network_is_measured_once_and_its_row_is_kept(tmp_path: Path) -> None:
    words = ["--networks", "squeezenet1_1", "--trained", "", *ALONE]
    [row] = apart(words, tmp_path)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:2] == ["squeezenet1_1", "yes"]
    assert float(cells[2]) >= 30
    [kept] = tmp_path.glob("*.json")
    kept.write_text(json.dumps(["| kept |"]))
    assert apart(words, tmp_path) == ["| kept |"]


def test_what_ends_a_network_is_its_row_and_is_tried_again(tmp_path: Path) -> None:
    [row] = apart(["--networks", "no_such_network", "--trained", "", *ALONE], tmp_path)
    assert "no_such_network | no |" in row
    assert "Error" in row
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("code", "printed", "ended"),
    [
        (0, 'words of a library\n{"lines": ["| a |"]}\n', None),
        (1, '{"ended": "ValueError: no"}\n', "ValueError: no"),
        (-9, '{"lines": ["| a |"]}\n', "exit code -9"),
        (-11, "words of a library\n", "exit code -11"),
        (1, "12\n", "exit code 1"),
        (1, "", "exit code 1"),
        (0, "\n", "exit code 0"),
    ],
)
def test_a_process_that_ends_without_its_lines_is_a_row_with_its_exit_code(
    code: int, printed: str, ended: str | None
) -> None:
    assert read_output(code, printed) == ({"lines": ["| a |"]} if ended is None else {"ended": ended})
