"""The solutions that the tests of this room alter, one per kind of program, and their check."""

from __future__ import annotations

from dataclasses import replace

from formulation import Solution, Verdict, check, score
from tests.formulation.cases import dense
from tests.formulation.paper_settings import paper_settings

CASE = dense(1, images=4)
PUBLISHED = paper_settings(radius=0.1, loss_weight=20)
SOLVED = {
    "relaxed": PUBLISHED,
    "integer": replace(PUBLISHED, relax=False),
    "exact": replace(PUBLISHED, gate="exact", relax=False, radius=0.0),
    "pattern": replace(PUBLISHED, gate="pattern", radius=0.0),
    "whole scores": replace(PUBLISHED, gate="exact", relax=False, integer_scores=True, radius=0.0),
}


class Solutions(dict[str, Solution]):
    """The solution of each kind, computed when it is first asked for."""

    def __missing__(self, kind: str) -> Solution:
        self[kind] = score(CASE.model, CASE.images, CASE.labels, SOLVED[kind])
        return self[kind]


def checked(solution: Solution, *, exact: bool = False) -> Verdict:
    return check(CASE.model, CASE.images, CASE.labels, solution, exact=exact)
