"""Allow-list of solver options: those that steer how a program is solved, and touch nothing else.

Left out, by kind: options whose value is a path or a file's name, options that make a solver write, read, print or
record, and options that change the program or the place of its answer. A solver without a list takes no option.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from formulation.errors import InvalidSetting

# Of HiGHS's strings only those that are words out of a list are here; the others are paths.
HIGHS = (
    r"(?!.*(report|logging|file|improving_solution))(mip|simplex|ipm|ipx|pdlp|qp|icrash)_\w+|"
    r"\w+_(tolerance|matrix_value|bound_scale|objective_scale)|infinite_(bound|cost)|objective_(bound|target)|"
    r"allowed_matrix_scale_factor|cost_scale_factor|random_seed|time_limit|threads|use_warm_start|solve_relaxation|"
    r"presolve|solver|parallel|run_crossover|ranging"
)

# Of SCIP's groups.
SCIP = (
    r"(branching|compression|conflict|constraints|cutselection|expr|heuristics|limits|lp|memory|nlhdlr|nodeselection|"
    r"numerics|presolving|pricing|propagating|randomization|relaxing|reoptimization|separating|timing)/"
    r"(?!.*(verblevel|output|display|dispsyminfo|shownbstats|filename)).+|"
    r"misc/(allow\w+|catchctrlc|improvingsols|scaleobj|use\w+|avoidmemout|estimexternmem)|nlp/disable"
)

CBC = (
    r"dual(bound|tolerance)|primal(tolerance|weight)|psi|zerotolerance|integertolerance|pretolerance|pumpcutoff|"
    r"forcesolution|idiotcrash|max(factor|iterations|nodes|savedsolutions|solutions)|random(seed|cbcseed)|sprintcrash|"
    r"cut(depth|length)|depthminibab|hotstartmaxits|pass(cuts|feasibilitypump|treecuts)|pumptune|slowcutpasses|"
    r"strategy|strongbranching|trustpseudocosts|cholesky|crash|crossover|factorization|perturbation|presolve|scaling|"
    r"\w+cuts|cutsonoff|combine2?solutions|constraintfromcutoff|coststrategy|cplexuse|dins|diving\w+|dwheuristic|"
    r"feasibilitypump|greedyheuristic|heuristicsonoff|localtreesearch|nodestrategy|pivotand\w+|preprocess|"
    r"proximitysearch|randomizedrounding|rens|rins|roundingheuristic|sos\w+|vndvariableneighborhoodsearch"
)

GLPK = (
    r"simplex|interior|scale|noscale|memlim|luf|btf|ft|cbg|cgr|primal|dual|std|adv|bib|steep|nosteep|relax|norelax|"
    r"flip|presol|nopresol|exact|xcheck|nord|qmd|amd|symamd|nomip|first|last|mostf|drtom|pcost|dfs|bfs|bestp|bestb|"
    r"intopt|nointopt|binarize|fpump|proxy|gomory|mir|cover|clique|cuts"
)

# The commercial solvers cannot be asked where they are not installed: their numbers, and no string at all.
GUROBI = (
    r"method|nodemethod|concurrent(method|mip)|(mip)?presolve|pre\w+|aggregate|aggfill|dualreductions|symmetry|"
    r"(?!.*(file|log|record)).*(cuts|cutpasses|heur|heuristics|passes|tol|tolerance)|mipfocus|crossover|seed|"
    r"numericfocus|scaleflag|varbranch|branchdir|nodelimit|iterationlimit|solutionlimit|memlimit|softmemlimit|"
    r"norelheur(time|work)|barhomogeneous|barorder|quad|sifting|perturbvalue|normadjust|simplexpricing"
)
CPLEX = (
    r"lpmethod|qpmethod|randomseed|parallel|advance|emphasis\.\w+|(?!.*(display|file)).*\.(cuts\.\w+|tolerances\.\w+)|"
    r"mip\.strategy\.(?!file)\w+|mip\.limits\.\w+|preprocessing\.\w+|"
    r"(simplex|barrier|sifting)\.(?!display)\w+(\.\w+)?|workmem"
)
XPRESS = (
    r"presolve|mippresolve|defaultalg|crossover|cutstrategy|treecutstrategy|heur(emphasis|freq\w*|search\w+)|scaling|"
    r"randomseed|\w+tol|maxnode|maxmipsol|lpiterlimit|bariterlimit|nodeselection|varselection|pricingalg|symmetry"
)
COPT = (
    r"presolve|scaling|dualize|lpmethod|\w+tol|\w*cutlevel|\w*cutrounds|\w*heurlevel|\w*heurrounds|crossover|"
    r"nodelimit|barhomogeneous|barorder|bariterlimit|strongbranching|conflictanalysis|symmetrylevel|randomseed"
)
MOSEK = (
    r"msk_[id]par_(?!.*(log|write|read|file|print))"
    r"(mio|intpnt|sim|presolve|basis|optimizer|bi|data_tol|upper_obj|lower_obj)(_\w+)?"
)

ALLOWED: Mapping[str, str] = {
    "highs": HIGHS, "scip": SCIP, "cbc": CBC, "glpk": GLPK, "gurobi": GUROBI, "cplex": CPLEX, "xpress": XPRESS,
    "copt": COPT, "mosek": MOSEK,
}  # fmt: skip
ASKED = ("highs", "scip", "cbc", "glpk")
CBC_VALUE = r"[A-Za-z][\w+]*|[-+\d.eE]*"  # a word, which begins with no hyphen and names no file, or a number


def require_allowed(solver: str, option: str, value: Any, full: str | None = None) -> None:
    """Raise InvalidSetting for an option that the solver knows and that is not of the allow-list.

    `full`: the option's whole name, where `option` may be an abbreviation or of other case.
    """
    if solver == "cbc":
        stray = isinstance(value, str) and re.fullmatch(CBC_VALUE, value) is None
    else:
        stray = isinstance(value, str) and solver not in ASKED
    if stray or re.fullmatch(ALLOWED.get(solver, "(?!)"), full or option) is None:
        raise InvalidSetting(
            f"solver option '{option}' of {solver} would change the program, or what is written, read or printed; "
            f"remove it"
        )
