"""Solutions on disk: what comes back equals what was written, and damage is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from formulation import InvalidSolution, Solution, check, score
from tests.formulation.cases import dense
from tests.formulation.paper_settings import paper_settings

CASE = dense(1, images=4)


@pytest.fixture(scope="module")
def solution() -> Solution:
    return score(CASE.model, CASE.images, CASE.labels, paper_settings(radius=0.1, relax=False, loss_weight=20))


def test_a_stored_solution_comes_back_equal_and_passes_the_check(solution: Solution, tmp_path: Path) -> None:
    folder = solution.save(tmp_path / "deep" / "down")
    loaded = Solution.load(folder)
    assert loaded.certificate == solution.certificate
    assert loaded.rounds == solution.rounds
    assert list(loaded.scores) == list(solution.scores)
    for name, values in solution.scores.items():
        np.testing.assert_array_equal(loaded.scores[name], values)
    assert set(loaded.unstable) == set(solution.unstable) != set()
    for name, stored in solution.unstable.items():
        for part in ("where", "value", "phase"):
            np.testing.assert_array_equal(getattr(loaded.unstable[name], part), getattr(stored, part))
    check(CASE.model, CASE.images, CASE.labels, loaded)


def test_the_certificate_is_json_that_a_person_can_read(solution: Solution, tmp_path: Path) -> None:
    stored = json.loads((solution.save(tmp_path) / "certificate.json").read_text())
    assert stored["status"] == "optimal"
    assert stored["settings"]["gate"] == "published"
    assert stored["checked"] is True
    assert len(stored["history"]) == stored["rounds"]
    assert json.loads(json.dumps(solution.certificate.to_dict()))["objective"] == solution.certificate.objective


def test_cuts_are_stored_under_their_older_name(solution: Solution, tmp_path: Path) -> None:
    stored = json.loads((solution.save(tmp_path) / "certificate.json").read_text())
    assert stored["rows"] == solution.certificate.cuts
    assert [each["rows"] for each in stored["history"]] == [each.cuts for each in solution.rounds]
    assert "cuts" not in stored
    assert stored["settings"]["cuts"] == "tangent"  # a setting of that name is another thing


def test_saving_twice_replaces(solution: Solution, tmp_path: Path) -> None:
    solution.save(tmp_path)
    other = replace(solution, scores={name: values * 0 for name, values in solution.scores.items()})
    assert not np.any(Solution.load(other.save(tmp_path)).scores["1"])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rewritten(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        stored = json.loads((folder / "certificate.json").read_text())
        (folder / "certificate.json").write_text(json.dumps(change(stored)))

    return damage


DAMAGE: dict[str, Callable[[Path], None]] = {
    "no certificate": lambda folder: (folder / "certificate.json").unlink(),
    "no scores": lambda folder: (folder / "solution.npz").unlink(),
    "half a certificate": lambda folder: cut(folder / "certificate.json"),
    "half the scores": lambda folder: cut(folder / "solution.npz"),
    "empty scores": lambda folder: (folder / "solution.npz").write_bytes(b"") and None,
    "scores that are text": lambda folder: (folder / "solution.npz").write_text("scores") and None,
    "a certificate that is no text": lambda folder: (folder / "certificate.json").write_bytes(b"\xff\xfe\x00") and None,
    "cuts under another name": rewritten(lambda stored: stored | {"cuts": 1}),
    "a certificate that is a list": rewritten(lambda _: []),
    "a certificate that is a number": rewritten(lambda _: 3),
    "a figure is missing": rewritten(lambda stored: {k: v for k, v in stored.items() if k != "bound"}),
    "a figure too many": rewritten(lambda stored: stored | {"speed": 3}),
    "a figure in words": rewritten(lambda stored: stored | {"bound": "low"}),
    "an unknown status": rewritten(lambda stored: stored | {"status": "splendid"}),
    "the rounds are missing": rewritten(lambda stored: {k: v for k, v in stored.items() if k != "history"}),
    "notes are nothing": rewritten(lambda stored: stored | {"notes": None}),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_solution_is_refused_with_its_folder(damage: str, solution: Solution, tmp_path: Path) -> None:
    DAMAGE[damage](solution.save(tmp_path))
    with pytest.raises(InvalidSolution, match="score again") as refused:
        Solution.load(tmp_path)
    assert str(tmp_path) in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def written_by_format_1(folder: Path) -> None:
    """The files as they were before a format was written: the dual bound's arrays were those of a `proof`."""
    rewritten(lambda stored: {k: v for k, v in stored.items() if k != "format"})(folder)
    with np.load(folder / "solution.npz") as archive:
        arrays = {name.replace("dual_bound/", "proof/"): archive[name] for name in archive.files}
    assert "proof/probabilities" in arrays
    np.savez(folder / "solution.npz", **arrays)


def test_a_solution_of_the_first_format_is_refused_by_its_number_and_never_read_without_its_dual_bound(
    solution: Solution, tmp_path: Path
) -> None:
    written_by_format_1(solution.save(tmp_path))
    with pytest.raises(
        InvalidSolution, match=r"^the solution in .* has format 1, this code reads format 2; score again$"
    ) as refused:
        Solution.load(tmp_path)
    assert str(tmp_path) in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("found", [0, 1, 3, 2.0, True, None, "2", [2], {"2": 2}])
def test_only_the_format_that_is_written_is_read(found: object, solution: Solution, tmp_path: Path) -> None:
    rewritten(lambda stored: stored | {"format": found})(solution.save(tmp_path))
    with pytest.raises(InvalidSolution, match=r"^the solution in .* has format .*; score again$"):
        Solution.load(tmp_path)


def test_an_array_that_is_missing_is_refused(solution: Solution, tmp_path: Path) -> None:
    solution.save(tmp_path)
    with np.load(tmp_path / "solution.npz") as archive:
        kept = {name: archive[name] for name in archive.files if not name.startswith("value/")}
    np.savez(tmp_path / "solution.npz", **kept)
    with pytest.raises(InvalidSolution):
        Solution.load(tmp_path)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSolution, match="nowhere"):
        Solution.load(tmp_path / "nowhere")


def test_numbers_edited_on_disk_do_not_pass_the_check(solution: Solution, tmp_path: Path) -> None:
    rewritten(lambda stored: stored | {"objective": stored["objective"] - 0.01})(solution.save(tmp_path))
    from formulation import CheckFailed

    with pytest.raises(CheckFailed, match="objective"):
        check(CASE.model, CASE.images, CASE.labels, Solution.load(tmp_path))
