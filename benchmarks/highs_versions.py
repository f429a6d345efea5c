"""HiGHS versions: random integer programs of the project's own kinds against enumeration, and the verdict.

python -m benchmarks.highs_versions [--programs 330] [--seed 0]

Tries the highspy that is installed, or the one that PYTHONPATH puts first:

    pip install --no-deps --target other highspy==1.16.0
    PYTHONPATH=other python -m benchmarks.highs_versions

Three kinds in turn: `exact` with scores in [0, 1], where the phases are enumerated and a linear program of scipy is
solved for each; whole scores, where every mask is evaluated; budgets, where every choice of widths is summed. Each
program is solved with one and two threads, with presolve and without, and its answer must be the enumerated optimum:
the bound, and what the chosen integers are worth in the enumeration. Exits with 1 where an answer is wrong.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linprog
from scipy.sparse import csr_array

from formulation import SolverCrashed, SolverFailed
from formulation.budget import budget_program as budgets
from formulation.budget.cost_terms import fold
from formulation.budget.layer_widths import choices
from formulation.network import Array, Index
from formulation.relaxation.cuts import Cuts, stack_cuts
from formulation.relaxation.reduction import Reduction
from formulation.relaxation.sparsity import sparsity
from formulation.score_settings import ScoreSettings
from formulation.solve.program import Program, build_program
from formulation.solve.separation import Separation, complete
from formulation.solve.solvers import IsolatedHighsSession
from formulation.solve.solvers.process import SolverProcess
from naming import GateName
from tests.formulation.cases import Case, conv_pool, dense

TOLERANCE = 1e-6  # of an optimum, relative to it where it exceeds 1
LIMIT = 60.0  # s, for one solve
MOST_PHASES = 6  # enumerated phases: each assignment is a linear program
LOSS_CUTS = 5  # points at which loss cuts touch the loss
THREADS, PRESOLVE = (1, 2), ("on", "off")


@dataclass(frozen=True, eq=False)
class Trial:
    """An integer program, and what every assignment of its integers is worth.

    Attributes:
        rows: over our columns, besides those of the program.
        integers: which of our columns are whole.
        assignments, values: [n, integers], [n]; infinite where infeasible.
    """

    kind: str
    program: Program
    rows: Cuts
    integers: Index
    assignments: Array
    values: Array


def main() -> int:
    """Try every program in every way and print the table and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=int, default=330)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    counts: dict[tuple[str, int, str], Counter[str]] = {}
    seconds: defaultdict[tuple[str, int, str], float] = defaultdict(float)
    process: SolverProcess | None = None
    version = ""
    for number, trial in enumerate(itertools.islice(trials(chosen.seed), chosen.programs)):
        for threads, presolve in itertools.product(THREADS, PRESOLVE):
            settings = ScoreSettings(
                gate="published", relax=False, threads=threads, solver_options={"presolve": presolve}
            )
            session = IsolatedHighsSession(trial.program, settings)
            process = session.process = process or session.process  # started once for all
            session.add_cuts("rows", trial.rows)
            started, key = time.perf_counter(), (trial.kind, threads, presolve)
            verdict = judged(session, trial)
            seconds[key] += time.perf_counter() - started
            counts.setdefault(key, Counter())[verdict] += 1
            version = session.version
            if verdict != "right":
                print(f"program {number} ({trial.kind}), {threads} threads, presolve {presolve}: {verdict}", flush=True)
    print(f"\nHiGHS {version}, {chosen.programs} programs from seed {chosen.seed}\n")
    print("| kind | threads | presolve | programs | right | wrong | failed or crashed | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for key, found in sorted(counts.items()):
        wrong = sum(count for verdict, count in found.items() if verdict.startswith("wrong"))
        cells = (*key, found.total(), found["right"], wrong, found.total() - found["right"] - wrong)
        print(f"| {' | '.join(map(str, cells))} | {seconds[key]:.1f} |")
    all_right = all(set(found) == {"right"} for found in counts.values())
    print(f"\nverdict: HiGHS {version} {'answered all of them rightly' if all_right else 'is not to be trusted'}")
    return 0 if all_right else 1


def judged(session: IsolatedHighsSession, trial: Trial) -> str:
    """`right`, or in words what is not."""
    best = float(trial.values.min())
    slack = TOLERANCE * max(1.0, abs(best))
    try:
        answer = session.solve(LIMIT, 0.0)
    except SolverCrashed as crash:
        return f"crashed: {crash}"
    except SolverFailed as failure:
        # the solver's word for a program without a solution is right where enumeration finds none either
        return "right" if not np.isfinite(best) else f"failed: {failure}"
    if answer.point is None or not answer.complete:
        return f"failed: no optimum within {LIMIT:g} s"
    chosen = np.round(answer.point[trial.integers])
    worth = trial.values[(trial.assignments == chosen).all(axis=1)]
    if not len(worth) or not abs(float(worth.min()) - best) <= slack:
        return f"wrong integers: worth {worth}, optimum {best:.9g}"
    if not abs(answer.bound - best) <= slack:
        return f"wrong bound {answer.bound:.9g}, optimum {best:.9g}"
    return "right"


def trials(seed: int) -> Iterator[Trial]:
    """The three kinds in turn, without end."""
    rng = np.random.default_rng(seed)
    while True:
        yield exact_trial(rng)
        yield whole_scores_trial(rng)
        yield budget_trial(rng)


def drawn_case(rng: np.random.Generator, units: int) -> Case:
    """A tiny network with about so many units."""
    seed, images = int(rng.integers(2**31)), int(rng.integers(1, 4))
    if rng.random() < 0.2 and units >= 9:
        return conv_pool(seed, images=images)
    first = int(rng.integers(1, units))
    return dense(seed, inputs=3, hidden=(first, units - first), classes=int(rng.integers(2, 4)), images=images)


def loss_cuts_of(reduction: Reduction, rng: np.random.Generator) -> Cuts:
    """Cuts and loss cuts at the unpruned network and at random scores."""
    separation, found = Separation(reduction), []
    for k in range(LOSS_CUTS):
        scores = np.ones(reduction.scores) if k == 0 else rng.random(reduction.scores)
        inspection = separation.inspect(complete(reduction, scores)[0], limit=100)
        found += [inspection.cuts, inspection.loss_cuts]
    return stack_cuts(found, max((block.matrix.shape[1] for block in found), default=0))


def exact_trial(rng: np.random.Generator) -> Trial:
    """`exact` with scores in [0, 1]: a linear program of scipy for every assignment of the phases."""
    while True:
        settings = ScoreSettings(
            gate="exact", relax=False, radius=float(rng.choice([0.0, 0.05])), loss_weight=float(rng.uniform(1, 30)),
            break_ties=False,
        )  # fmt: skip
        reduction = drawn_case(rng, int(rng.integers(2, 6))).reduction(settings)
        if 0 < reduction.unstable <= MOST_PHASES:
            break
    rows = loss_cuts_of(reduction, rng)
    program = build_program(reduction, settings, integer=True)
    phases = np.concatenate([w.phase[w.phase >= 0] for part in reduction.batches for w in part.unstable.values()])
    assignments = np.array(list(itertools.product((0.0, 1.0), repeat=len(phases))))
    values = linear_optima(as_matrices(program, rows), phases, assignments)
    return Trial("exact", program, rows, phases, assignments, values)


@dataclass(frozen=True, eq=False)
class Matrices:
    """min costs x, least <= A x <= most, lower <= x <= upper, in linopy's order of columns."""

    costs: Array
    A: csr_array
    least: Array
    most: Array
    lower: Array
    upper: Array
    position: Index


def as_matrices(program: Program, rows: Cuts) -> Matrices:
    """The program with further rows as plain matrices."""
    m = program.model.matrices
    position = np.zeros(int(m.vlabels.max()) + 1, dtype=np.int64)
    position[m.vlabels] = np.arange(len(m.vlabels))
    ours, (_, width) = position[program.labels], rows.matrix.shape
    place = csr_array((np.ones(width), (np.arange(width), ours[:width])), shape=(width, len(m.vlabels)))
    least = np.concatenate([np.where(m.sense == "<", -np.inf, m.b), rows.lower])
    most = np.concatenate([np.where(m.sense == ">", np.inf, m.b), rows.upper])
    stacked = csr_array(np.vstack([csr_array(m.A).toarray(), (rows.matrix @ place).toarray()]))
    return Matrices(np.asarray(m.c, dtype=float), stacked, least, most, np.array(m.lb), np.array(m.ub), ours)


def linear_optima(matrices: Matrices, integers: Array, assignments: Array) -> Array:
    """The optimum of the linear program that each assignment leaves, by scipy."""
    A, least, most = matrices.A.toarray(), matrices.least, matrices.most
    above, below = np.isfinite(most), np.isfinite(least)
    left, right = np.vstack([A[above], -A[below]]), np.concatenate([most[above], -least[below]])
    values = []
    for assignment in assignments:
        lower, upper = matrices.lower.copy(), matrices.upper.copy()
        lower[matrices.position[integers]] = upper[matrices.position[integers]] = assignment
        found = linprog(matrices.costs, left, right, bounds=np.stack([lower, upper], axis=1), method="highs-ds")
        values.append(float(found.fun) if found.status == 0 else np.inf)
    return np.array(values)


def whole_scores_trial(rng: np.random.Generator) -> Trial:
    """Whole scores: every mask evaluated by the network's forms, the loss cuts and the layer terms."""
    gate: GateName = rng.choice(["pattern", "linear", "exact"])
    settings = ScoreSettings(
        gate=gate, relax=False, radius=0.0, integer_scores=True, loss_weight=float(rng.uniform(1, 30)),
        break_ties=False,
    )  # fmt: skip
    reduction = drawn_case(rng, int(rng.integers(4, 8 if gate == "exact" else 11))).reduction(settings)
    rows = loss_cuts_of(reduction, rng)
    program = build_program(reduction, settings, integer=True)
    masks = np.array(list(itertools.product((0.0, 1.0), repeat=reduction.scores)))
    values = np.array([mask_value(reduction, rows, mask, settings) for mask in masks])
    return Trial("whole scores", program, rows, np.arange(reduction.scores), masks, values)


def mask_value(reduction: Reduction, rows: Cuts, mask: Array, settings: ScoreSettings) -> float:
    """The program's objective at a mask with these cuts and loss cuts; infinite where a cut breaks."""
    point, _ = complete(reduction, mask)
    ours = rows.matrix[:, : reduction.columns] @ point
    of_theta = rows.matrix[:, reduction.columns :].tocoo()
    gate = np.ones(len(rows), dtype=bool)
    gate[of_theta.row] = False
    broken = np.maximum(rows.lower - ours, ours - rows.upper)[gate]
    if np.max(broken, initial=0.0) > TOLERANCE:
        return float("inf")
    theta = np.zeros(reduction.images)
    np.maximum.at(theta, of_theta.col, (rows.lower[of_theta.row] - ours[of_theta.row]) / of_theta.data)
    return settings.loss_weight * float(theta.mean()) + sparsity(reduction.network, mask, settings.layer_weight)


def budget_trial(rng: np.random.Generator) -> Trial:
    """A budget over a chain of layers: every choice of widths summed."""
    layers = {name: rng.random(int(rng.integers(2, 7))) for name in "abcd"[: int(rng.integers(2, 5))]}
    names = list(layers)
    costs: list[tuple[str | None, str | None, float]] = [(None, names[0], rng.uniform(1, 9))]
    costs += [(p, c, rng.uniform(0.5, 5)) for p, c in itertools.combinations(names, 2)]
    costs += [(names[-1], None, rng.uniform(1, 9))]
    allowed = choices(layers, allowed=None, grids=None, layer_weight="units")
    folded = fold(costs, allowed, None)
    all_widths = list(itertools.product(*(range(len(each.widths)) for each in allowed.values())))
    spent = np.array([folded.of(dict(zip(names, at, strict=True))) for at in all_widths])
    budget = float(rng.uniform(spent.min() * 1.001, spent.max()))
    program = budgets.build_budget_program(allowed, folded, budget)
    worth = np.array([sum(allowed[k].value[n] for k, n in zip(names, at, strict=True)) for at in all_widths])
    ends = np.cumsum([0, *(len(each.widths) for each in allowed.values())])
    assignments = np.zeros((len(all_widths), int(ends[-1])))
    for layer in range(len(names)):
        assignments[np.arange(len(all_widths)), ends[layer] + np.array(all_widths)[:, layer]] = 1.0
    values = np.where(spent <= budget, -worth / budgets.worth(allowed), np.inf)
    return Trial("budget", program, stack_cuts([], int(ends[-1])), np.arange(int(ends[-1])), assignments, values)


if __name__ == "__main__":
    sys.exit(main())
