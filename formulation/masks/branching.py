"""Branch and bound over masks: units are fixed, or widths of a layer halved, until every region's bound is high enough.

The region with the lowest bound is looked at first. What its duals already prove of one side of a branch needs no
program: a unit whose reduced cost lifts the bound high enough is fixed on the other side (reduced cost fixing). Every
region keeps the duals behind its bound, so the whole tree is a proof that arithmetic confirms.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field

import numpy as np

from formulation.deadline import Deadline
from formulation.masks.budgets import Branch, MaskBudget, Region, Rows, rows_of
from formulation.masks.checks import lagrangian_of_region, size_of
from formulation.masks.cutting_planes import CuttingPlanes, Relaxed
from formulation.masks.mask_solution import Ending
from formulation.masks.mask_swaps import MaskSearch, rounded
from formulation.network import Array

FREE = 1e-6  # a score farther than this from 0 and 1 is none of a mask
NODE_ROUNDS = 25
NODE_GAP = 1e-3
SHARE = 0.25  # of the gap asked for, by which an inner answer may be off


@dataclass(frozen=True, eq=False)
class OpenRegion:
    """A region with the duals that bound it, and scores near its lowest."""

    path: tuple[Branch, ...]
    region: Region
    bound: float
    weights: Array
    rows: Array
    scores: Array


@dataclass(eq=False)
class Branching:
    """The tree: open regions by their bound, and those that are done."""

    planes: CuttingPlanes
    search: MaskSearch
    budget: MaskBudget
    gap: float
    smallest: dict[str, int]
    deadline: Deadline
    done: list[OpenRegion] = field(default_factory=list)
    nodes: int = 1

    def run(self, root: OpenRegion, most: int) -> Ending:
        """Branch until the gap is closed, so many regions were looked at, or the time is over."""
        ticket = itertools.count()
        queue = [(root.bound, next(ticket), root)]
        ending: Ending = "optimal"
        while queue:
            bound, _, node = queue[0]
            if bound >= self.threshold:
                break
            if self.nodes >= most or not self.deadline.leaves(0.0):
                ending = "node_limit" if self.nodes >= most else "time_limit"
                break
            heapq.heappop(queue)
            for child in self._branched(node):
                heapq.heappush(queue, (child.bound, next(ticket), child))
        self.done += [node for _, _, node in queue]
        return ending

    @property
    def threshold(self) -> float:
        """The bound at which a region is done: the gap asked for is closed."""
        assert self.search.best is not None
        return self.search.best.objective - self.gap * size_of(self.search.best.objective)

    @property
    def bound(self) -> float:
        """Of every mask; the whole tree must be done."""
        return min(node.bound for node in self.done)

    def _branched(self, node: OpenRegion) -> list[OpenRegion]:
        node = self._fixed(node)
        step = self._chosen(node)
        if step is None:
            self.done.append(node)
            return []
        return [self._child(node, step._replace(above=above)) for above in (False, True)]

    def _fixed(self, node: OpenRegion) -> OpenRegion:
        """The node with every unit fixed that its duals decide; the other sides are done."""
        slope = self._slope(node)
        for unit in np.flatnonzero((node.region.lower < node.region.upper) & (slope != 0)):
            if node.bound + abs(slope[unit]) < self.threshold:
                continue
            step = Branch("unit", int(unit), 0, bool(slope[unit] > 0))
            closed = self._moved(node, step)
            if closed.bound >= self.threshold:
                self.done.append(closed)
                node = self._moved(node, step._replace(above=not step.above))
        return node

    def _slope(self, node: OpenRegion) -> Array:
        """What the proved bound grows by with each score."""
        cuts, rows = self.planes.pool.cuts, self._rows(node.region)
        total = node.weights.sum()
        used = np.flatnonzero(node.weights)
        made: Array = sum((node.weights[k] / total * cuts[k].slope for k in used), rows.matrix.T @ node.rows)
        return made

    def _rows(self, region: Region) -> Rows:
        problem = self.planes.pool.problem
        return rows_of(problem.network, self.budget, problem.mask, region)

    def _moved(self, node: OpenRegion, step: Branch) -> OpenRegion:
        """One side of a branch, with what the node's own duals prove of it."""
        region = node.region.after(step)
        bound = lagrangian_of_region(self.planes.pool.cuts, node.weights, self._rows(region), node.rows, region)
        return OpenRegion((*node.path, step), region, bound, node.weights, node.rows, node.scores)

    def _chosen(self, node: OpenRegion) -> Branch | None:
        """The unit whose score is farthest from a mask's, or else a width that a product of widths leaves open."""
        region = node.region
        free = np.where(region.lower < region.upper, np.minimum(node.scores, 1 - node.scores), -1.0)
        unit = int(free.argmax())
        if free[unit] > FREE:
            return Branch("unit", unit, 0, False)
        network = self.planes.pool.problem.network
        products = {layer for limit in self.budget.costs for term in limit.terms if None not in term[:2]
                    for layer in term[:2]}  # fmt: skip
        widest: tuple[float, Branch | None] = (0.0, None)
        for k, (layer, where) in enumerate(network.score_slices.items()):
            low = max(int(region.lower[where].sum()), int(region.least[k]))
            high = min(int(region.upper[where].sum()), int(region.most[k]))
            if layer in products and high - low > widest[0]:
                at = int(np.clip(np.floor(node.scores[where].sum()), low, high - 1))
                widest = high - low, Branch("width", k, at, False)
        if widest[1] is not None:
            return widest[1]
        return Branch("unit", unit, 0, False) if free[unit] >= 0 else None

    def _child(self, node: OpenRegion, step: Branch) -> OpenRegion:
        made = self._moved(node, step)
        if made.bound >= self.threshold:
            return made
        self.nodes += 1
        found = self.planes.relax(
            made.region, made.scores, within=False, until=self.threshold, gap=NODE_GAP, rounds=NODE_ROUNDS,
            accurate=min(NODE_GAP, SHARE * self.gap) * size_of(self.threshold),
        )  # fmt: skip
        problem = self.planes.pool.problem
        scores = made.scores if found.scores is None else np.clip(found.scores, made.region.lower, made.region.upper)
        self.search.offer(rounded(problem.network, self.budget, problem.mask, scores, self.smallest))
        return proved_node(made, found, scores)


def proved_node(node: OpenRegion, found: Relaxed, scores: Array) -> OpenRegion:
    """The node with the better of two bounds and the duals behind it.

    Args:
        node: with the bound of its parent's duals.
        found: what its own program proves.
        scores: near its lowest.
    """
    if found.bound <= node.bound or not len(found.weights):
        return OpenRegion(node.path, node.region, node.bound, node.weights, node.rows, scores)
    return OpenRegion(node.path, node.region, found.bound, found.weights, found.rows, scores)
