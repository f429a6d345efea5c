"""Options of every solver: asked of the solver before any work, and never one that leaves the integers out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from formulation import InvalidSetting, ScoreSettings, score
from formulation.solvers import require_options
from formulation.solvers.through_linopy import THREADS_OPTION
from tests.formulation.cases import dense
from tests.formulation.required import require_installed

CASE = dense(1)


@pytest.mark.parametrize(
    ("solver", "options", "says"),
    [
        ("scip", {"limits/nodess": 3}, "'limits/nodess' is unknown to scip; did you mean limits/nodes"),
        ("scip", {"limits/nodes": 1.5}, "limits/nodes=1.5 is not a value that scip takes"),
        ("scip", {"misc/usesymmetry": "much"}, "is not a value that scip takes"),
        ("scip", {"display/verblevel": 9}, "display/verblevel=9 is not a value"),
        ("scip", {"misc/catchctrlc": 3}, "misc/catchctrlc=3 is not a value"),
        ("scip", {"setEmphasis": "feasibility"}, "'setEmphasis' is unknown to scip"),
        ("scip", {"limits/gap": 0.1}, "'limits/gap' of scip is what the setting gap is for"),
        ("cbc", {"presolv": "off"}, "presolv='off'|'presolv' is unknown to cbc; did you mean presolve"),
        ("cbc", {"gomoryCutz": "on"}, "'gomoryCutz' is unknown to cbc; did you mean .*gomorycuts"),
        ("cbc", {"presolve": "sometimes"}, "presolve='sometimes' is not a value that cbc takes"),
        ("cbc", {"maxNodes": "many"}, "maxNodes='many' is not a value"),
        ("cbc", {"integerTolerance": -3}, "integerTolerance=-3 is not a value"),
        ("cbc", {"maxNodes": ""}, "is not a value"),
        ("cbc", {"ratio": 0.1}, "'ratio' of cbc is what the setting gap is for"),
        ("cbc", {"sec": 5}, "'sec' of cbc is what the setting time_limit is for"),
        ("cbc", {"barrier": ""}, "'barrier' is unknown to cbc"),
        ("cbc", {"direction": "max"}, "'direction' of cbc would change the program"),
        ("glpk", {"nopresoll": True}, "'nopresoll' is unknown to glpk; did you mean nopresol"),
        ("glpk", {"nopresol": "yes"}, "'nopresol' of glpk is a switch, found 'yes'"),
        ("glpk", {"memlim": "much"}, "memlim='much' is not a value that glpk takes"),
        ("glpk", {"tmlim": 5}, "'tmlim' of glpk is what the setting time_limit is for"),
        ("glpk", {"max": True}, "'max' of glpk would change the program"),
        ("highs", {"time_limit": 5.0}, "'time_limit' of highs is what the setting time_limit is for"),
        ("highs", {"threads": 2}, "'threads' of highs is what the setting threads is for"),
        ("cbc", {"threads": 2}, "'threads' of cbc is what the setting threads is for"),
    ],
)
def test_a_wrong_option_of_any_solver_is_refused_before_any_work(
    solver: str, options: dict[str, object], says: str
) -> None:
    require_installed(solver)
    with pytest.raises(InvalidSetting, match=says) as refusal:
        score(None, None, None, ScoreSettings(solver=solver, solver_options=options))
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize("solver", THREADS_OPTION)
def test_the_threads_of_a_commercial_solver_are_a_setting_and_no_option(solver: str) -> None:
    option = THREADS_OPTION[solver]
    for spelt in (option, option.upper()):
        with pytest.raises(InvalidSetting, match=f"'{spelt}' of {solver} is what the setting threads is for"):
            require_options(ScoreSettings(solver=solver, solver_options={spelt: 2}))


@pytest.mark.parametrize(
    ("solver", "options"),
    [
        ("scip", {"limits/nodes": 100000, "separating/maxrounds": 0}),
        ("cbc", {"gomoryCuts": "off", "strat": 0, "presolve": "off"}),
        ("glpk", {"nopresol": True, "memlim": 500, "cuts": True}),
        ("highs", {"presolve": "off"}),
    ],
)
def test_a_right_option_reaches_the_solver_and_the_optimum_stays(solver: str, options: dict[str, object]) -> None:
    require_installed(solver)
    settings = ScoreSettings(radius=0.1, relax=False, gap=1e-5)
    plain = score(CASE.model, CASE.images, CASE.labels, settings).certificate
    told = replace(settings, solver=solver, solver_options=options)
    assert score(CASE.model, CASE.images, CASE.labels, told).certificate.objective == pytest.approx(
        plain.objective, abs=5e-5
    )


@pytest.mark.parametrize(
    ("solver", "options", "says"),
    [
        ("highs", {"solve_relaxation": True}, "'solve_relaxation' of highs drops integrality"),
        ("glpk", {"nomip": True}, "'nomip' of glpk drops integrality"),
        ("glpk", {"interior": True}, "'interior' of glpk drops integrality"),
    ],
)
def test_an_option_for_linear_programs_alone_never_reaches_an_integer_program(
    solver: str, options: dict[str, object], says: str
) -> None:
    require_installed(solver)
    settings = ScoreSettings(solver=solver, solver_options=options, radius=0.1)
    for whole in ({"relax": False}, {"integer_scores": True}):
        with pytest.raises(InvalidSetting, match=says):
            score(None, None, None, replace(settings, **whole))
    assert score(CASE.model, CASE.images, CASE.labels, settings).certificate.status == "optimal"
