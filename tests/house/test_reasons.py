"""Reasons: what silences a checker or catches every error says why, on its line or on the one above."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("benchmarks", "critical_neurons", "flows", "formulation", "naming", "tracing", "training")
SILENCING = re.compile(r"# type: ignore(\[[\w, -]+\])?")
BLANKET = re.compile(r"^\s*except( (Base)?Exception\b.*)?:")
NOTED = re.compile(r"#(?! noqa| type: ignore| fmt:) *\S|# noqa: \w+ - \S|# noqa: \w+ \(\S|# type: ignore\S* +# \S")


def without_reason(text: str) -> list[int]:
    """The numbers of lines that silence or catch everything without a comment beside or above them."""
    lines = text.splitlines()
    asking = [k for k, line in enumerate(lines) if SILENCING.search(line) or BLANKET.match(line)]
    return [k + 1 for k in asking if not any(NOTED.search(line) for line in lines[max(0, k - 1) : k + 1])]


@pytest.mark.parametrize("room", ROOMS)
def test_what_silences_a_checker_or_catches_everything_says_why(room: str) -> None:
    found = {str(path.relative_to(ROOT)): without_reason(path.read_text()) for path in (ROOT / room).rglob("*.py")}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x = y  # type: ignore[arg-type]", [1]),
        ("# Because.\nx = y  # type: ignore[arg-type]", []),
        ("x = y  # type: ignore[arg-type]  # likewise", []),
        ("try:\n    x\nexcept Exception as error:\n    raise", [3]),
        ("try:\n    x\nexcept:\n    raise", [3]),
        ("try:\n    x\nexcept BaseException:  # noqa: BLE001 - it may be anything\n    raise", []),
        ("try:\n    x\nexcept Exception:  # noqa: BLE001\n    raise", [3]),
        ("try:\n    x\nexcept (OSError, ValueError):\n    raise", []),
    ],
)
def test_a_line_without_a_reason_is_found(text: str, found: list[int]) -> None:
    assert without_reason(text) == found
