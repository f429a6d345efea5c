"""HiGHS, SCIP, CBC and GLPK agree on random small programs in every semantics."""

from __future__ import annotations

from dataclasses import replace

import pytest

from formulation import ScoreSettings
from formulation.solve.outer_approximation import solve
from tests.formulation.cases import Case, conv_pool, dense, strided_grouped
from tests.formulation.paper_settings import paper_settings
from tests.formulation.required import SOLVERS, require_installed

pytestmark = pytest.mark.slow

KINDS = (dense, conv_pool, strided_grouped)
SETTINGS = {
    "published": paper_settings(gate="published", radius=0.05, gap=4e-6),
    "pattern": paper_settings(gate="pattern", radius=0.0, gap=4e-6),
    "exact": paper_settings(gate="exact", radius=0.01, gap=4e-6, allow_degenerate=True),
}
FEW_BINARIES = (0, 3, 5)


def program(number: int) -> Case:
    return KINDS[number % 3](number)


def agree(case: Case, settings: ScoreSettings) -> None:
    reduction = case.reduction(settings)
    outcomes = {name: solve(reduction, replace(settings, solver=name)) for name in SOLVERS}
    assert {outcome.status for outcome in outcomes.values()} == {"optimal"}
    objectives = [outcome.incumbent.objective for outcome in outcomes.values()]
    assert max(objectives) - min(objectives) <= 1e-5
    for outcome in outcomes.values():
        assert outcome.bound <= min(objectives) + 1e-7  # an answer is feasible to a tolerance only


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("gate", SETTINGS)
def test_four_solvers_agree_on_a_relaxed_program(gate: str, number: int) -> None:
    for solver in SOLVERS:
        require_installed(solver)
    agree(program(number), SETTINGS[gate])


@pytest.mark.parametrize("number", FEW_BINARIES)
@pytest.mark.parametrize("gate", ["published", "exact"])
def test_four_solvers_agree_on_an_integer_program(gate: str, number: int) -> None:
    for solver in SOLVERS:
        require_installed(solver)
    agree(program(number), replace(SETTINGS[gate], relax=False))
