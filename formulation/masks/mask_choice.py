"""The public verb of the mask program: which units to keep within a budget, once the survivors have taken over."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from formulation.deadline import NEVER, Deadline
from formulation.masks.branching import Branching, OpenRegion
from formulation.masks.budgets import MaskBudget, Region, Widths, admits, require_feasible, require_layers, rows_of
from formulation.masks.checks import first_order, objective_at, objectives_at, relative_to, size_of, verify_mask
from formulation.masks.cutting_planes import CutPool, CuttingPlanes, Relaxed
from formulation.masks.feasible_mask import feasible_mask
from formulation.masks.inner_problem.joint_problem import JointProblem, MaskProblem
from formulation.masks.mask_inputs import read_classes, read_mask, read_starts, require_kinds
from formulation.masks.mask_solution import (
    Ending,
    Leaf,
    MaskCertificate,
    MaskProof,
    MaskSettings,
    MaskSolution,
)
from formulation.masks.mask_swaps import MaskSearch, rounded
from formulation.network import Array
from formulation.scoring_data import images_digest
from formulation.solve import import_linopy
from formulation.solve.solvers import require_solvable

ROOT_ROUNDS = 400
ROOT_TIME = 0.5  # of the time, for the relaxation where masks follow
ROOT_GAP, ROOT_SHARE = 2e-3, 0.1  # of the relaxation, relative, and of the gap asked for: where masks follow, no nearer
ACCURATE = 1e-2  # of the first inner answers, relative to the dense network's loss at no unit
FINAL = 1e-8  # of the last inner answer, relative

MaskProgress = Callable[[int, float, float], None]


def choose_mask(
    model: Any,
    images: Any,
    labels: Any,
    budget: MaskBudget,
    settings: MaskSettings,
    *,
    mask: Mapping[str, ArrayLike] | None = None,
    starts: Sequence[Mapping[str, ArrayLike]] = (),
    held: Sequence[str] = (),
    progress: MaskProgress | None = None,
) -> MaskSolution:
    """The units to keep within a budget, with a proof of how much better any others could be.

    The mask program (`dual_cuts` has the mathematics) is relaxed by cutting planes, rounded, searched by swaps, and
    branched on until the gap is closed; its certificate says that no mask within the budget and the trust region has
    an objective below the bound, for the network linearised at the mask so far. The check follows before it returns.

    Args:
        model: a torch module in eval mode that takes images in pixel units and returns logits.
        images: [n, ...] pixels; or a DataLoader or any iterable of (images, labels), read whole; of images alone where
            labels are given, or not read.
        labels: [n] whole numbers, None where they are beside the images; only `loss=labels` makes use of them, and with
            `loss=squared` they may be missing, or quantities, and the network may have one output.
        budget: what the mask may keep.
        settings: see `MaskSettings`.
        mask: the mask so far, around which the network is linearised; everything is kept by default.
        starts: masks to begin the search with; those that pass the budget are left out.
        held: layers whose units all stay.
        progress: called with the round, the bound and the objective of the relaxation.

    Returns:
        Masks for every scored layer, the certificate, and the proof.

    Raises:
        InvalidModel, InvalidImages, UnsupportedLayer, InvalidSetting, SolverUnavailable: before any work.
        InvalidBudget, BudgetTooSmall: limits that no mask keeps; the message says which, and the smallest that one can.
        TimeLimitReached: the time limit passed before anything was proved.
        SolverFailed, CheckFailed: never masks in silence.
    """
    import_linopy()
    started = time.perf_counter()
    require_kinds(budget, settings)
    deadline = Deadline.after(settings.time_limit)
    require_solvable(settings.for_solver())
    network, pixels, classes = read_classes(model, images, labels, settings, held, deadline)
    require_layers(network, budget)
    base = np.ones(network.score_count) if mask is None else read_mask(network, mask)
    smallest = require_feasible(network, budget, base)
    problem = first_order(network, pixels, classes, base, settings, deadline)
    begun = read_starts(network, starts)
    hashes = network.digest(), images_digest(pixels, classes)
    solution = solve_masks(problem, budget, settings, begun, smallest, deadline, progress, hashes)
    verify_mask(network, pixels, classes, solution)
    certificate = replace(solution.certificate, checked=True, seconds=time.perf_counter() - started)
    return replace(solution, certificate=certificate)


def objective_of(
    model: Any,
    images: Any,
    labels: Any,
    masks: Mapping[str, ArrayLike],
    settings: MaskSettings,
    *,
    held: Sequence[str] = (),
) -> float:
    """The objective that a mask program has at given masks, with the best changes of the surviving weights.

    Args:
        model, images, labels, settings, held: as for `choose_mask`; the network is linearised around the whole one.
        masks: kept units by layer; layers that are not named are kept.

    Raises:
        InvalidModel, InvalidImages, InvalidSolution, UnsupportedLayer: before any work.
    """
    network, pixels, classes = read_classes(model, images, labels, settings, held, NEVER)
    problem = first_order(network, pixels, classes, np.ones(network.score_count), settings)
    return problem.solve(read_mask(network, masks), FINAL).objective


def solve_masks(
    problem: MaskProblem,
    budget: MaskBudget,
    settings: MaskSettings,
    starts: Sequence[Array],
    smallest: Widths,
    deadline: Deadline,
    progress: MaskProgress | None,
    hashes: tuple[str, str],
) -> MaskSolution:
    """The best mask found and its proof, unchecked.

    Args:
        problem: the program without its budget.
        budget, settings, progress: as for `choose_mask`.
        starts: masks to begin the search with, each [units].
        smallest: widths that the budget admits.
        deadline: of the call.
        hashes: of the network and of the images, for the certificate.

    Raises:
        TimeLimitReached: the time limit passed before anything was proved.
        SolverFailed: as the sessions do.
    """
    started = time.perf_counter()
    run = _Run(problem, budget, settings, deadline, smallest, progress)
    return _solution(run, run.solve(starts), hashes, started)


@dataclass(frozen=True, eq=False)
class _Found:
    status: Ending
    relaxed: Relaxed
    leaves: list[OpenRegion]
    nodes: int


class _Run:
    """The relaxation, the search, and the branching."""

    def __init__(
        self,
        problem: MaskProblem,
        budget: MaskBudget,
        settings: MaskSettings,
        deadline: Deadline,
        smallest: Widths,
        progress: MaskProgress | None,
    ) -> None:
        self.problem, self.budget, self.settings, self.deadline = problem, budget, settings, deadline
        self.smallest = smallest
        self.pool = CutPool(problem)
        self.planes = CuttingPlanes(self.pool, budget, settings.for_solver(), deadline, told=progress)
        self.search = MaskSearch(self.pool, budget, deadline)

    def solve(self, starts: Sequence[Array]) -> _Found:
        network, base, settings = self.problem.network, self.problem.mask, self.settings
        for start in starts:
            if admits(network, self.budget, base, start):
                self.search.offer(start)
        nothing = self.problem.unchanged_loss(np.zeros(network.score_count))
        first = self._first()
        region = Region.whole(network)
        gap = max(ROOT_GAP, ROOT_SHARE * settings.gap) if settings.integer else settings.gap
        if settings.integer:
            self.planes.deadline = self.deadline.earlier((1 - ROOT_TIME) * self.deadline.remaining())
        relaxed = self.planes.relax(
            region, first, within=first is not None, until=np.inf, gap=gap, rounds=ROOT_ROUNDS,
            accurate=ACCURATE * nothing,
        )  # fmt: skip
        self.planes.told = None  # what follows is of parts of it
        self.planes.deadline = self.deadline
        if not len(relaxed.weights):
            self.deadline.require("a bound of the relaxation", math.inf)
        scores = relaxed.scores if relaxed.scores is not None else base
        self.search.offer(rounded(network, self.budget, base, scores, self.smallest))
        if self.search.best is None:
            self.search.offer(rounded(network, self.budget, base, base + scores, self.smallest))
        if self.search.best is None:
            solver = settings.for_solver()
            self.search.offer(feasible_mask(network, self.budget, base, solver, self.deadline))
        self.search.swap(settings.swaps)
        root = OpenRegion((), region, relaxed.bound, relaxed.weights, relaxed.rows, np.clip(scores, 0.0, 1.0))
        if not settings.integer:
            return _Found(self._ended(relaxed.bound), relaxed, [root], 1)
        tree = Branching(self.planes, self.search, self.budget, settings.gap, self.smallest, self.deadline)
        status = tree.run(root, settings.nodes)
        self.search.swap(settings.swaps)
        return _Found(status, relaxed, tree.done, tree.nodes)

    def _first(self) -> Array | None:
        """Scores that keep the budget: the best mask so far mixed with equal scores where those keep it."""
        network, base = self.problem.network, self.problem.mask
        if self.budget.changes is None and not self.budget.costs and self.budget.units is None:
            asked = {
                name: self.budget.counts.get(name, self.budget.at_most.get(name, units))
                for name, units in network.units.items()
            }
            equal = network.stack({name: np.full(units, asked[name] / units) for name, units in network.units.items()})
            rows = rows_of(network, self.budget, base, Region.whole(network))
            if np.all(rows.matrix @ equal <= rows.most + 1e-9):
                return equal
        if self.search.best is not None:
            return self.search.best.mask
        return rounded(network, self.budget, base, base, self.smallest)

    def _ended(self, bound: float) -> Ending:
        assert self.search.best is not None
        closed = relative_to(self.search.best.objective, bound) <= self.settings.gap
        return "optimal" if closed else "node_limit" if self.deadline.leaves(0.0) else "time_limit"


def _solution(run: _Run, found: _Found, hashes: tuple[str, str], started: float) -> MaskSolution:
    assert run.search.best is not None
    problem, chosen, network = run.problem, run.search.best.mask, run.problem.network
    answer = problem.solve(chosen, FINAL * size_of(run.search.best.objective), run.search.best.answer.changes)
    changes = problem.named(answer.changes)
    proof = _proof(run, found.leaves)
    objective = objective_at(problem, chosen, changes)
    bound = min(min(node.bound for node in found.leaves), objective)
    gap = relative_to(objective, bound)
    masks, base = ({n: v > 0.5 for n, v in network.unstack(each).items()} for each in (chosen, problem.mask))
    master = run.planes.master
    certificate = MaskCertificate(
        status=found.status if gap > run.settings.gap else "optimal",
        objective=objective,
        bound=bound,
        gap=gap,
        relaxation=found.relaxed.bound,
        relaxed_objective=found.relaxed.objective if math.isfinite(found.relaxed.objective) else objective,
        unchanged_loss=problem.unchanged_loss(chosen),
        rounds=found.relaxed.rounds,
        nodes=found.nodes,
        cuts=len(proof.duals),
        seconds=time.perf_counter() - started,
        solver=run.settings.solver,
        solver_version="" if master is None else master.session.version,
        model_hash=hashes[0],
        images_hash=hashes[1],
        images=problem.images,
        units={name: int(mask.sum()) for name, mask in masks.items()},
        settings=run.settings.to_dict(),
        budget=run.budget.to_dict(),
        notes=_notes(problem, run.settings),
    )
    if isinstance(problem, JointProblem):
        each = dict(zip(problem.names, objectives_at(problem, chosen, changes), strict=True))
        certificate = replace(certificate, over=problem.over, objectives=each)
    scores = network.unstack(np.clip(chosen if found.relaxed.scores is None else found.relaxed.scores, 0.0, 1.0))
    return MaskSolution(masks, scores, certificate, proof, base, changes)


def _proof(run: _Run, leaves: Sequence[OpenRegion]) -> MaskProof:
    """The leaves with the cuts that any of them makes use of."""
    count = len(run.pool.cuts)
    weights = np.array([np.append(node.weights, np.zeros(count - len(node.weights))) for node in leaves])
    used = np.flatnonzero(weights.any(axis=0))
    made = tuple(Leaf(node.path, own[used], node.rows) for node, own in zip(leaves, weights, strict=True))
    return MaskProof(np.array([run.pool.duals[k] for k in used]), made)


def _notes(problem: MaskProblem, settings: MaskSettings) -> tuple[str, ...]:
    notes = ["the bound is of the network linearised at the mask so far, with the weights' changes priced"]
    if math.isfinite(settings.refit_weight):
        problems = problem.problems if isinstance(problem, JointProblem) else (problem,)
        owners = (reading.owner for each in problems for reading in each.expansion.readings)
        read = set(np.concatenate([np.zeros(0, dtype=int), *owners]).tolist())
        left = [name for name, where in problem.network.score_slices.items() if where.start not in read]
        if left:
            notes.append(f"no dense layer reads {', '.join(left)}: the weights behind it do not change")
    return tuple(notes)
