"""Solver options: refused unless known to the solver, of a value it takes, and of no meaning that we rely on.

What a solver knows is asked of the solver itself, before any work: SCIP's parameters in this process, CBC's and GLPK's
from the lists that their programs print. Of a solver that is not here to be asked (a commercial one) nothing is known;
it refuses when it runs.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import highspy

from formulation.errors import InvalidSetting, SolverUnavailable
from formulation.score_settings import ScoreSettings
from formulation.solve.solvers.allowed_options import ASKED, require_allowed
from formulation.solve.solvers.highs import set_options
from naming import did_you_mean

# the option that does what a setting of ours does; two words for one thing would contradict each other in silence
OWNED: Mapping[str, Mapping[str, str]] = {
    "highs": {"time_limit": "time_limit", "mip_rel_gap": "gap", "mip_abs_gap": "gap", "threads": "threads"},
    "scip": {
        "limits/time": "time_limit", "limits/softtime": "time_limit", "limits/gap": "gap", "limits/absgap": "gap",
    },
    "cbc": {
        "seconds": "time_limit", "timemode": "time_limit", "ratiogap": "gap", "allowablegap": "gap",
        "increment": "gap", "threads": "threads",
    },
    "glpk": {"tmlim": "time_limit", "mipgap": "gap"},
    "gurobi": {"timelimit": "time_limit", "mipgap": "gap", "mipgapabs": "gap", "threads": "threads"},
    "cplex": {
        "timelimit": "time_limit", "mip.tolerances.mipgap": "gap", "mip.tolerances.absmipgap": "gap",
        "threads": "threads",
    },
    "xpress": {
        "timelimit": "time_limit", "maxtime": "time_limit", "miprelstop": "gap", "mipabsstop": "gap",
        "threads": "threads",
    },
    "copt": {"timelimit": "time_limit", "relgap": "gap", "absgap": "gap", "threads": "threads"},
    "mosek": {
        "msk_dpar_optimizer_max_time": "time_limit", "msk_dpar_mio_max_time": "time_limit",
        "msk_dpar_mio_tol_rel_gap": "gap", "msk_dpar_mio_tol_abs_gap": "gap", "msk_ipar_num_threads": "threads",
    },
}  # fmt: skip

# what would leave the integers out, in silence
LINEAR_ONLY: Mapping[str, tuple[str, ...]] = {
    "highs": ("solve_relaxation",),
    "glpk": ("nomip", "interior"),
}

CBC_PARAMETERS = tuple(f"{of}{kind}" for of in ("", "branch and cut ") for kind in ("double", "integer", "keyword"))
GLPK_OPTION = re.compile(
    r"^\s+(?:-\w(?: \w+)?, )?--(?P<name>\w+)(?: (?P<value>nnn|tol|bound|filename|value|probname))?", re.MULTILINE
)


def require_options(settings: ScoreSettings) -> None:
    """Raise InvalidSetting for a solver option that is unknown, of a wrong value, or not to be set."""
    name, options = settings.solver, settings.solver_options
    for option in options:
        owner = OWNED.get(name, {}).get(_canonical(name, str(option)))
        if owner is not None:
            raise InvalidSetting(f"solver option '{option}' of {name} is what the setting {owner} is for; use that")
    whole = settings.integer_scores or not settings.relax
    for option in options:
        if whole and option in LINEAR_ONLY.get(name, ()) and options[option] not in (False, "off"):
            raise InvalidSetting(
                f"solver option '{option}' of {name} drops integrality; remove it for an integer program"
            )
    ask: Mapping[str, Callable[[ScoreSettings], None]] = {"scip": _ask_scip, "cbc": _ask_cbc, "glpk": _ask_glpk}
    if name not in ASKED:
        for option, value in options.items():
            require_allowed(name, option, value, option.lower())
    if name == "highs":
        set_options(highspy.Highs(), settings)
    elif options and name in ask:
        ask[name](settings)


def _canonical(solver: str, option: str) -> str:
    """The full name of an option in lower case; CBC takes abbreviations."""
    if solver == "cbc":
        matches = [
            full
            for short, full in cbc_parameters()
            if full.startswith(option.lower()) and option.lower().startswith(short)
        ]
        return matches[0] if matches else option.lower()
    return option if solver in ("highs", "scip", "glpk") else option.lower()


def _ask_scip(settings: ScoreSettings) -> None:
    scip = importlib.import_module("pyscipopt").Model()
    known = scip.getParams()
    for option, value in settings.solver_options.items():
        if option not in known:
            raise _unknown("scip", option, known)
        require_allowed("scip", option, value)
        # pyscipopt would take 1.5 for a whole number and 3 for a truth
        kind = type(known[option])
        plain = isinstance(value, (bool, int, float, str)) and isinstance(value, kind | int if kind is float else kind)
        try:
            if not plain or (kind is int and isinstance(value, bool)):
                raise _no_value("scip", option, value)
            scip.setParam(option, value)
        except (ValueError, TypeError, OverflowError, KeyError) as error:
            raise _no_value("scip", option, value) from error


def _ask_cbc(settings: ScoreSettings) -> None:
    known = [full for _, full in cbc_parameters()]
    for option, value in settings.solver_options.items():
        full = _canonical("cbc", str(option))
        if full not in known:
            raise _unknown("cbc", option, known)
        require_allowed("cbc", option, value, full)
        word = spelt(value)
        plain = isinstance(value, (int, float, str)) and not isinstance(value, bool) and word and not word.isspace()
        if not plain or refusals(_printed(["cbc", f"-{option}", word, "-quit"])):
            raise _no_value("cbc", option, value)


def _ask_glpk(settings: ScoreSettings) -> None:
    taken = glpk_options()
    for option, value in settings.solver_options.items():
        if option not in taken:
            raise _unknown("glpk", option, taken)
        require_allowed("glpk", option, value)
        if not taken[option] and value is not True:
            raise InvalidSetting(
                f"solver option '{option}' of glpk is a switch, found {value!r}; give true, or leave it out"
            )
        if taken[option] and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            raise _no_value("glpk", option, value)


def cbc_parameters() -> list[tuple[str, str]]:
    """(shortest abbreviation, full name) of CBC's parameters, in lower case, without those that are actions."""
    pairs, wanted = [("threads", "threads")], False  # CBC hides it from its short list
    for line in _printed(["cbc", "-"], "?\nquit\n").splitlines():
        head = re.fullmatch(r"(.*?)(?: parameters)?:", line.strip())
        if head is not None:
            wanted = head[1].lower() in CBC_PARAMETERS
        elif wanted and line.startswith(" "):
            for word in line.split():
                pairs.append((word.split("(")[0].lower(), word.replace("(", "").replace(")", "").lower()))
    return pairs


def glpk_options() -> dict[str, bool]:
    """GLPK's long options, and whether each takes a value."""
    found = GLPK_OPTION.finditer(_printed(["glpsol", "--help"]))
    return {each["name"]: each["value"] is not None for each in found}


def refusals(log: str) -> list[str]:
    """The lines in which CBC refuses a word of its command line; it goes on regardless."""
    signs = ("No match for", "is illegal for", "Possible options for", "valid range is", "Short match for")
    return [line.strip() for line in log.splitlines() if any(sign in line for sign in signs)]


def spelt(value: Any) -> str:
    """A value as a command line takes it."""
    return repr(value) if isinstance(value, float) else str(value)


def _printed(command: list[str], said: str = "") -> str:
    try:
        # an empty folder: whatever a word makes a solver write is not left in the caller's
        with tempfile.TemporaryDirectory(prefix="asked") as folder:
            done = subprocess.run(
                command, input=said, capture_output=True, text=True, timeout=30, check=False, cwd=folder
            )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError) as error:
        raise SolverUnavailable(
            f"'{command[0]}' does not say which options it takes ({error}); install it again"
        ) from error
    return done.stdout


def _unknown(solver: str, option: str, known: Iterable[str]) -> InvalidSetting:
    hint = did_you_mean(option, known, most=3)
    return InvalidSetting(f"solver option '{option}' is unknown to {solver}" + (f"; {hint}" if hint else ""))


def _no_value(solver: str, option: str, value: Any) -> InvalidSetting:
    return InvalidSetting(f"solver option {option}={value!r} is not a value that {solver} takes; look at its manual")
