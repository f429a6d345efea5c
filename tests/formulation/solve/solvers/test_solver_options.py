"""Options of every solver: asked of the solver before any work, and never one that leaves the integers out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import highspy
import pyscipopt
import pytest

from formulation import InvalidSetting, score
from formulation.solve.solvers import require_options
from formulation.solve.solvers.allowed_options import require_allowed
from formulation.solve.solvers.through_linopy import THREADS_OPTION
from tests.formulation.cases import dense
from tests.formulation.paper_settings import paper_settings
from tests.formulation.required import require_installed

CASE = dense(1)


@pytest.mark.parametrize(
    ("solver", "options", "says"),
    [
        ("scip", {"limits/nodess": 3}, "'limits/nodess' is unknown to scip; did you mean 'limits/nodes"),
        ("scip", {"limits/nodes": 1.5}, "limits/nodes=1.5 is not a value that scip takes"),
        ("scip", {"misc/usesymmetry": "much"}, "is not a value that scip takes"),
        ("scip", {"lp/pricing": "z"}, "lp/pricing='z' is not a value"),
        ("scip", {"misc/catchctrlc": 3}, "misc/catchctrlc=3 is not a value"),
        ("scip", {"setEmphasis": "feasibility"}, "'setEmphasis' is unknown to scip"),
        ("scip", {"limits/gap": 0.1}, "'limits/gap' of scip is what the setting gap is for"),
        ("cbc", {"presolv": "off"}, "presolv='off'|'presolv' is unknown to cbc; did you mean 'presolve"),
        ("cbc", {"gomoryCutz": "on"}, "'gomoryCutz' is unknown to cbc; did you mean .*gomorycuts"),
        ("cbc", {"presolve": "sometimes"}, "presolve='sometimes' is not a value that cbc takes"),
        ("cbc", {"maxNodes": "many"}, "maxNodes='many' is not a value"),
        ("cbc", {"integerTolerance": -3}, "integerTolerance=-3 is not a value"),
        ("cbc", {"maxNodes": ""}, "is not a value"),
        ("cbc", {"ratio": 0.1}, "'ratio' of cbc is what the setting gap is for"),
        ("cbc", {"sec": 5}, "'sec' of cbc is what the setting time_limit is for"),
        ("cbc", {"barrier": ""}, "'barrier' is unknown to cbc"),
        ("cbc", {"direction": "max"}, "'direction' of cbc would change the program"),
        ("glpk", {"nopresoll": True}, "'nopresoll' is unknown to glpk; did you mean 'nopresol"),
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
        score(None, None, None, paper_settings(solver=solver, solver_options=options))
    assert len(str(refusal.value).splitlines()) == 1


PATHS = {
    "highs": (
        *("log_file", "solution_file", "write_model_file", "write_presolved_model_file", "write_basis_file"),
        *("read_solution_file", "read_basis_file", "mip_improving_solution_file"),
    ),
    "scip": (
        *("visual/vbcfilename", "visual/bakfilename", "concurrent/paramsetprefix", "heuristics/repair/filename"),
        *("heuristics/alns/rewardfilename", "estimation/regforestfilename", "solvingphases/feassetname"),
        *("nlpi/ipopt/optfile", "nlpi/ipopt/hsllib"),
    ),
    "cbc": (),
    "glpk": ("output", "write", "read", "log", "ini", "ranges", "wlp", "wmps", "wglp", "model", "display"),
    "gurobi": ("LogFile", "ResultFile", "NodefileDir", "SolFiles", "log_fn", "problem_fn", "solution_fn", "basis_fn"),
    "cplex": ("workdir", "output.intsolfileprefix", "mip.strategy.file", "logfile"),
    "xpress": ("logfile", "tempdir"),
    "copt": ("LogFile", "problem_fn"),
    "mosek": ("MSK_SPAR_DATA_FILE_NAME", "MSK_SPAR_MIO_SOL_FILE_NAME", "MSK_SPAR_INT_SOL_FILE_NAME"),
    "knitro": ("outdir", "anything"),
}
SAYING = {
    "highs": {
        "output_flag": True, "write_solution_to_file": True, "write_model_to_file": True, "log_to_console": True,
        "mip_report_level": 2, "log_dev_level": 3, "highs_debug_level": 3, "mip_improving_solution_save": True,
    },
    "scip": {
        "display/verblevel": 5, "display/freq": 1, "display/sols/active": 1, "visual/realtime": True,
        "separating/cgmip/output": True, "write/allconss": True, "heuristics/dualval/heurverblevel": 2,
        "propagating/symmetry/displaynorbitvars": True, "table/lp/active": True, "misc/outputorigsol": False,
    },
    "cbc": {"logLevel": 3, "slogLevel": 3, "outputFormat": 2, "allCommands": "all", "messages": "on"},
    "gurobi": {"LogToConsole": 1, "Record": 1, "OutputFlag": 1, "NodefileStart": 0.5, "keep_files": True},
    "cplex": {"mip.strategy.file": 3, "mip.display": 2, "output.clonelog": 1, "simplex.display": 2},
    "copt": {"Logging": 1, "keep_files": True},
    "mosek": {"MSK_IPAR_LOG": 10, "MSK_IPAR_LOG_MIO": 1, "MSK_IPAR_WRITE_DATA_PARAM": 1, "MSK_IPAR_MIO_LOG": 1},
}  # fmt: skip


@pytest.mark.parametrize(
    ("solver", "option", "value"),
    [(solver, option, "trace") for solver, options in PATHS.items() for option in options]
    + [(solver, option, value) for solver, options in SAYING.items() for option, value in options.items()]
    # words that CBC would take for commands of its own, were they not a value
    + [("cbc", option, word) for option in ("maxNodes", "presolve") for word in ("-export", "trace.lp", "/tmp/x")],
)
def test_an_option_that_makes_a_solver_write_read_or_print_is_refused_and_leaves_nothing(
    solver: str, option: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if solver in ("cbc", "glpk"):
        require_installed(solver)
    monkeypatch.chdir(tmp_path)
    value = str(tmp_path / "trace") if value == "trace" else value
    with pytest.raises(InvalidSetting, match="what is written, read or printed; remove it") as refusal:
        require_options(paper_settings(solver=solver, solver_options={option: value}))
    assert len(str(refusal.value).splitlines()) == 1
    assert f"'{option}' of {solver}" in str(refusal.value)
    assert not list(tmp_path.iterdir())


def test_no_string_of_highs_or_scip_that_is_a_path_is_on_the_allow_list() -> None:
    highs, scip = highspy.Highs(), pyscipopt.Model().getParams()
    strings = {name for name in dir(highs.getOptions()) if isinstance(getattr(highs.getOptions(), name), str)}
    words = {"presolve", "solver", "parallel", "run_crossover", "ranging"}
    assert words < strings
    free = {name for name in scip if isinstance(scip[name], str) and not scip[name].isalpha()}
    assert len(free) > 10
    for solver, options in (("highs", strings - words), ("scip", free)):
        for option in options:
            with pytest.raises(InvalidSetting, match="remove it"):
                require_allowed(solver, option, "x")


@pytest.mark.parametrize("solver", ["gurobi", "cplex", "xpress", "copt", "mosek"])
def test_a_commercial_solver_takes_numbers_that_steer_its_search_and_no_string(solver: str) -> None:
    option, value = {
        "gurobi": ("MIPFocus", 1), "cplex": ("mip.strategy.heuristicfreq", 2), "xpress": ("PRESOLVE", 0),
        "copt": ("LpMethod", 2), "mosek": ("MSK_IPAR_MIO_HEURISTIC_LEVEL", 1),
    }[solver]  # fmt: skip
    require_options(paper_settings(solver=solver, solver_options={option: value}))
    with pytest.raises(InvalidSetting, match="remove it"):
        require_options(paper_settings(solver=solver, solver_options={option: "/somewhere"}))


@pytest.mark.parametrize("solver", THREADS_OPTION)
def test_the_threads_of_a_commercial_solver_are_a_setting_and_no_option(solver: str) -> None:
    option = THREADS_OPTION[solver]
    for spelt in (option, option.upper()):
        with pytest.raises(InvalidSetting, match=f"'{spelt}' of {solver} is what the setting threads is for"):
            require_options(paper_settings(solver=solver, solver_options={spelt: 2}))


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
    settings = paper_settings(radius=0.1, relax=False, gap=1e-5)
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
    settings = paper_settings(solver=solver, solver_options=options, radius=0.1)
    for whole in ({"relax": False}, {"integer_scores": True}):
        with pytest.raises(InvalidSetting, match=says):
            score(None, None, None, replace(settings, **whole))
    assert score(CASE.model, CASE.images, CASE.labels, settings).certificate.status == "optimal"
