"""Digests of code: a change of what does the work of a stage changes them, a change of what leads up to it does not."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.cache import location


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the project's code, which counts as the project's."""
    for room in location.ROOMS:
        shutil.copytree(location.ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(location, "ROOT", tmp_path)
    location.code_digest.cache_clear()
    yield tmp_path
    monkeypatch.undo()
    location.code_digest.cache_clear()


def changes(root: Path, file: str) -> bool:
    """Whether the digest of a file's room is another with a comment more in the file."""
    room = file.partition("/")[0]
    before = location.code_digest(room)
    with (root / file).open("a") as code:
        code.write("# another version\n")
    location.code_digest.cache_clear()
    return location.code_digest(room) != before


@pytest.mark.parametrize(
    "file",
    [
        *(f"flows/adapters/{name}.py" for name in ("aggregation", "artifacts", "library_settings", "programs")),
        *(f"flows/adapters/{name}.py" for name in ("solving", "unit_selection")),
        "flows/reporting/figures.py", "flows/stages/scoring/score.py", "flows/stages/pruning/prune.py",
        "formulation/relaxation/gates.py", "naming/nearest.py", "tracing/ops.py", "training/fitting/loop.py",
    ],
)  # fmt: skip
def test_a_change_of_what_does_the_work_changes_the_digest(root: Path, file: str) -> None:
    assert changes(root, file)


@pytest.mark.parametrize("file", ["flows/launch.py", "flows/pipelines/flows.py", "flows/config/settings.py"])
def test_a_change_of_what_leads_up_to_the_work_changes_nothing(root: Path, file: str) -> None:
    assert not changes(root, file)


def test_every_room_that_counts_is_there() -> None:
    assert all(list((location.ROOT / "flows" / room).glob("*.py")) for room in location.WORKING)
    assert all(list((location.ROOT / room).glob("*.py")) for room in location.ROOMS)
