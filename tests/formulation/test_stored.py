"""What is damaged in a solution is said in one line, by whatever reads it again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from formulation import InvalidSetting, InvalidSolution, ScoreSettings, Solution, explain, score, score_ranges
from formulation.proof import lagrangian
from tests.formulation.cases import dense

CASE = dense(1, images=3)
SETTINGS = ScoreSettings(gate="pattern", radius=0)


@pytest.fixture(scope="module")
def solution() -> Solution:
    return score(CASE.model, CASE.images, CASE.labels, SETTINGS)


def certified(solution: Solution, **more: Any) -> Solution:
    return replace(solution, certificate=replace(solution.certificate, **more))


def told(solution: Solution, **more: Any) -> Solution:
    return certified(solution, settings=dict(solution.certificate.settings) | more)


def scored(solution: Solution, name: str, values: Any) -> Solution:
    return replace(solution, scores=dict(solution.scores) | {name: values})


def proved(solution: Solution, **more: Any) -> Solution:
    assert solution.proof is not None
    return replace(solution, proof=replace(solution.proof, **more))


def moved(solution: Solution, column: int, value: int) -> Solution:
    assert solution.proof is not None
    rows = solution.proof.rows.copy()
    rows[0, column] = value
    return proved(solution, rows=rows)


DAMAGES: dict[str, Any] = {
    "no solution": (lambda s: None, "the solution is NoneType"),
    "a folder": (lambda s: "runs/set", "the solution is str"),
    "no certificate": (lambda s: replace(s, certificate=None), "the solution is Solution"),
    "no settings": (lambda s: certified(s, settings=None), "settings in the certificate are damaged"),
    "settings of no name": (lambda s: told(s, more=1), "settings in the certificate are damaged"),
    "a setting out of range": (lambda s: told(s, gap=-1), "settings in the certificate are damaged"),
    "settings without a range": (lambda s: certified(s, settings={}), "settings in the certificate are damaged"),
    "a bound above the objective": (lambda s: certified(s, bound=9.0), "certificate is damaged"),
    "no scores": (lambda s: replace(s, scores={}), "no 6 scores for layer '1'"),
    "too few scores": (lambda s: scored(s, "1", np.ones(5)), "no 6 scores for layer '1'"),
    "scores in words": (lambda s: scored(s, "1", "abc"), "no 6 scores for layer '1'"),
    "scores that are none": (lambda s: scored(s, "3", np.full(5, np.nan)), r"layer '3' are not all in \[0, 1\]"),
    "scores above 1": (lambda s: scored(s, "3", np.full(5, 2)), r"layer '3' are not all in \[0, 1\]"),
    "scores of another layer": (lambda s: scored(s, "7", np.ones(5)), "not those of the network's scored layers"),
    "scores as a list": (lambda s: replace(s, scores=[1.0]), "not those of the network's scored layers"),
    "scores in rows of two lengths": (lambda s: scored(s, "1", [[1.0], [1.0, 0.0]]), "no 6 scores for layer '1'"),
    "no proof but words": (lambda s: replace(s, proof="words"), "proof is damaged"),
    "rows cut off": (lambda s: proved(s, rows=s.proof.rows[:-1]), "proof is damaged"),
    "rows as floats": (lambda s: proved(s, rows=s.proof.rows.astype(float)), "proof is damaged"),
    "a row of no node": (lambda s: moved(s, 0, 99), "proof is damaged"),
    "a row of a negative image": (lambda s: moved(s, 2, -1), "proof is damaged"),
    "a row of no image": (lambda s: moved(s, 2, 3), "proof is damaged"),
    "prices that are none": (lambda s: proved(s, prices=s.proof.prices * np.nan), "proof is damaged"),
    "probabilities of 0": (lambda s: proved(s, probabilities=0 * s.proof.probabilities), "proof is damaged"),
    "probabilities of one class": (lambda s: proved(s, probabilities=s.proof.probabilities[:1]), "proof is damaged"),
    "no shares": (lambda s: proved(s, layers=None), "proof is damaged"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_solution_is_refused_in_one_line_before_any_work(
    what: str, solution: Solution, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage, says = DAMAGES[what]
    damaged = damage(solution)
    monkeypatch.setattr("formulation.stored.reduce", lambda *_: pytest.fail("work was done"))
    for verb in (explain, score_ranges):
        with pytest.raises(InvalidSolution, match=says) as refusal:
            verb(CASE.model, CASE.images, CASE.labels, damaged)
        assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(("column", "value"), [(0, 0), (1, 10**6)])
def test_a_row_that_is_nowhere_in_the_program_is_refused(column: int, value: int, solution: Solution) -> None:
    """A node without rows, and an activation that the node has not."""
    with pytest.raises(InvalidSolution, match="proof is damaged") as refusal:
        explain(CASE.model, CASE.images, CASE.labels, moved(solution, column, value))
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("most", [2.5, -1, "x", None, True])
def test_how_many_pulls_is_a_whole_number(most: Any) -> None:
    with pytest.raises(InvalidSetting, match=f"most={most!r} is out of range"):
        explain(None, None, None, None, most=most)


def test_a_sound_solution_is_read(solution: Solution) -> None:
    assert explain(CASE.model, CASE.images, CASE.labels, solution, most=np.int64(1))
    assert explain(CASE.model, CASE.images, CASE.labels, solution, most=0) == ()
    assert solution.proof is not None
    proof = lagrangian(CASE.reduction(SETTINGS), solution.proof)
    assert proof.bound == pytest.approx(solution.certificate.proved_bound)
