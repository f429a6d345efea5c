"""Damage to a stored solution is said in one line, by whatever reads it again."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from formulation import (
    InvalidSetting,
    InvalidSolution,
    Solution,
    check,
    explain,
    lower,
    prove_bound,
    score,
    score_ranges,
)
from formulation.duality.dual_bound import lagrangian
from formulation.network import Add, Affine, ChannelGate, MaxPool, Relu, Shift
from naming import GateName
from tests.formulation.cases import SMALL, dense, densely_connected
from tests.formulation.paper_settings import paper_settings

CASE = dense(1, images=3)
SETTINGS = paper_settings(gate="pattern", radius=0)


def certified(solution: Solution, **more: Any) -> Solution:
    return replace(solution, certificate=replace(solution.certificate, **more))


def told(solution: Solution, **more: Any) -> Solution:
    return certified(solution, settings=dict(solution.certificate.settings) | more)


def scored(solution: Solution, name: str, values: Any) -> Solution:
    return replace(solution, scores=dict(solution.scores) | {name: values})


def proved(solution: Solution, **more: Any) -> Solution:
    assert solution.dual_bound is not None
    return replace(solution, dual_bound=replace(solution.dual_bound, **more))


def moved(solution: Solution, column: int, value: int) -> Solution:
    assert solution.dual_bound is not None
    rows = solution.dual_bound.cuts.copy()
    rows[0, column] = value
    return proved(solution, cuts=rows)


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
    "no proof but words": (lambda s: replace(s, dual_bound="words"), "dual bound is damaged"),
    "rows cut off": (lambda s: proved(s, cuts=s.dual_bound.cuts[:-1]), "dual bound is damaged"),
    "rows as floats": (lambda s: proved(s, cuts=s.dual_bound.cuts.astype(float)), "dual bound is damaged"),
    "a row of no node": (lambda s: moved(s, 0, 99), "dual bound is damaged"),
    "a row of a negative image": (lambda s: moved(s, 2, -1), "dual bound is damaged"),
    "a row of no image": (lambda s: moved(s, 2, 3), "dual bound is damaged"),
    "prices that are none": (lambda s: proved(s, cut_duals=s.dual_bound.cut_duals * np.nan), "dual bound is damaged"),
    "probabilities of 0": (lambda s: proved(s, probabilities=0 * s.dual_bound.probabilities), "dual bound is damaged"),
    "probabilities of one class": (
        lambda s: proved(s, probabilities=s.dual_bound.probabilities[:1]),
        "dual bound is damaged",
    ),
    "no shares": (lambda s: proved(s, layers=None), "dual bound is damaged"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_solution_is_refused_in_one_line_before_any_work(
    what: str, solution: Solution, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage, says = DAMAGES[what]
    damaged = damage(solution)
    monkeypatch.setattr("formulation.verify.stored_solution.reduce", lambda *_: pytest.fail("work was done"))
    for verb in (explain, score_ranges):
        with pytest.raises(InvalidSolution, match=says) as refusal:
            verb(CASE.model, CASE.images, CASE.labels, damaged)
        assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(("column", "value"), [(0, 0), (1, 10**6)])
def test_a_row_that_is_nowhere_in_the_program_is_refused(column: int, value: int, solution: Solution) -> None:
    """A node without rows, and an activation that the node has not."""
    with pytest.raises(InvalidSolution, match="dual bound is damaged") as refusal:
        explain(CASE.model, CASE.images, CASE.labels, moved(solution, column, value))
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("most", [2.5, -1, "x", None, True])
def test_how_many_pulls_is_a_whole_number(most: Any) -> None:
    with pytest.raises(InvalidSetting, match=f"most={most!r} is out of range"):
        explain(None, None, None, None, most=most)


def test_a_sound_solution_is_read(solution: Solution) -> None:
    assert explain(CASE.model, CASE.images, CASE.labels, solution, most=np.int64(1))
    assert explain(CASE.model, CASE.images, CASE.labels, solution, most=0) == ()
    assert solution.dual_bound is not None
    dual_bound = lagrangian(CASE.reduction(SETTINGS), solution.dual_bound)
    assert dual_bound.bound == pytest.approx(solution.certificate.proved_bound)


@pytest.mark.parametrize("gate", ["published", "exact"])
def test_a_sound_solution_with_channel_gates_is_read(gate: GateName) -> None:
    """Its cuts name nodes of the network whose channel gates are ReLUs, which has more than the lowered one."""
    case = densely_connected(images=1)
    settings = paper_settings(gate=gate, radius=0.0, allow_degenerate=True)
    solution = score(case.model, case.images, case.labels, settings)
    assert solution.dual_bound is not None
    split = case.reduction(settings).network
    rows = [(at, 0, 0) for at, node in enumerate(split.nodes) if isinstance(node.op, Relu)]
    assert rows[-1][0] >= len(lower(case.model, case.images).nodes)
    cuts, duals = np.vstack([solution.dual_bound.cuts, rows]), [*solution.dual_bound.cut_duals, *(0.0 for _ in rows)]
    solution = proved(solution, cuts=cuts, cut_duals=np.array(duals))
    explain(case.model, case.images, case.labels, solution)
    for low, high in score_ranges(case.model, case.images, case.labels, solution).values():
        assert (low <= high + 1e-9).all()
    check(case.model, case.images, case.labels, solution)


@pytest.mark.parametrize(
    ("name", "more"), [("densely connected", {Add, ChannelGate}), ("norm after relu", {Shift, MaxPool})]
)
def test_a_row_on_a_node_without_rows_is_refused_by_its_name(name: str, more: set[type]) -> None:
    """Of every kind of node, by every verb that reads rows."""
    case = SMALL[name](images=1)
    solution = score(case.model, case.images, case.labels, SETTINGS)
    nodes = lower(case.model, case.images).nodes
    places = {type(node.op): at for at, node in enumerate(nodes)}
    assert places.keys() == {Affine, Relu} | more
    for kind, at in places.items():
        forged = proved(solution, cuts=np.array([[at, 0, 0]]), cut_duals=np.ones(1))
        for verb in (check, prove_bound, partial(prove_bound, exact=True), explain):
            if kind not in (Relu, MaxPool):
                says = f"dual bound is damaged.*'{nodes[at].name}', {kind.__name__}"
                with pytest.raises(InvalidSolution, match=says):
                    verb(case.model, case.images, case.labels, forged)
            elif verb is not check:  # a bound holds whatever its duals
                verb(case.model, case.images, case.labels, forged)
