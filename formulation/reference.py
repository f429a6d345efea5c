"""The program of the design written out in full, to be read and to be compared with: nothing is reduced.

Every value of every image is a variable, every inequality a row, and the loss is approximated by tangents in a loop
that hands the whole program to the solver again. It is slow on purpose and meant for small networks: the program that
`score` solves must have the same optimum. Shared with it are the lowered network and the interval bounds, nothing else.

minimise  loss_weight * mean_i theta_i + largest
subject to  theta_i >= log sum_c exp o_ic - o_i,y_i                          by tangents
            largest >= the sum of any n - 1 of the n layer terms t_k         (of the one term where n = 1)
            the values of affine maps, sums and shifts                       as equations
            (1) to (4) of every ReLU, (5) to (7) of every max-pool window    as the gate says
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, assert_never

import linopy
import numpy as np
from linopy import LinearExpression, Model, Variable
from linopy.constraints import ConstraintBase
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax
from xarray import DataArray

from formulation.bounds import Box, input_box, propagate
from formulation.errors import SolverFailed
from formulation.network import INPUT, Add, Affine, Array, Index, MaxPool, Network, Node, Relu, Shift
from formulation.settings import FIRST_ORDER, ScoreSettings

linopy.options["semantics"] = "v1"

ROUNDS = 400
CLOSE = 1e-8  # how near the epigraph must come to the loss
PRECISE = {
    "output_flag": False, "threads": 1, "mip_rel_gap": 0.0, "mip_abs_gap": 1e-10,
    "primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance": 1e-9, "mip_feasibility_tolerance": 1e-9,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class UnreducedProgram:
    """A linopy model with every value of every image, [activations, images], as the variable `value_<node>`.

    Attributes:
        model: the linopy model; the loss epigraph has no tangents yet.
        logits: the variable of the last node.
        labels: [images].
        loss_weight: of the mean cross-entropy.
    """

    model: Model
    logits: Variable
    labels: Index
    loss_weight: float

    def minimise(self) -> float | None:
        """The optimum to about 1e-8, None where no point is feasible; adds tangents to the model.

        Raises:
            SolverFailed: the solver stopped for another reason, or the tangents did not converge.
        """
        theta = self.model.variables["theta"]
        for k in range(ROUNDS):
            _, ended = self.model.solve("highs", io_api="direct", progress=False, **PRECISE)
            if ended == "infeasible":
                return None
            if ended != "optimal":
                raise SolverFailed(f"highs ended with status '{ended}' on the unreduced program; look at its model")
            logits = self.logits.solution.to_numpy()
            each = np.arange(len(self.labels))
            loss = -log_softmax(logits, axis=0)[self.labels, each]
            if (loss - theta.solution.to_numpy()).max() < CLOSE:
                return float(self.loss_weight * loss.mean() + self.model.variables["largest"].solution)
            slope = softmax(logits, axis=0)
            slope[self.labels, each] -= 1
            weights = DataArray(slope, dims=self.logits.dims, coords=self.logits.coords)
            rest = DataArray(loss - (slope * logits).sum(axis=0), dims=theta.dims, coords=theta.coords)
            self.model.add_constraints(theta - (weights * self.logits).sum(self.logits.dims[0]) >= rest, name=f"t{k}")
        raise SolverFailed(f"the unreduced program did not converge in {ROUNDS} rounds; its weights may be extreme")


def write_out(network: Network, pixels: Array, labels: Index, settings: ScoreSettings) -> UnreducedProgram:
    """The unreduced program of a scoring set.

    Args:
        network: the lowered network.
        pixels: [inputs, images].
        labels: [images].
        settings: gate semantics, radius and pixel range, weights, and what is whole; the solver is HiGHS.

    Raises:
        InvalidBounds: see `bounds.propagate`.
    """
    writer = _Writer(network, pixels, settings)
    for node in network.nodes:
        writer.write(node)
    model = writer.model
    theta = model.add_variables(lower=0.0, coords=[("image", np.arange(pixels.shape[1]))], name="theta")
    largest = model.add_variables(name="largest")
    _sum_of_largest(model, network, largest, settings)
    model.add_objective(settings.loss_weight / len(labels) * theta.sum() + largest, sense="min")
    return UnreducedProgram(model, writer.values[network.nodes[-1].name], labels, settings.loss_weight)


def _sum_of_largest(model: Model, network: Network, largest: Variable, settings: ScoreSettings) -> None:
    """largest >= the sum of any max(1, n - 1), of all n in `total`, of t_k = sum_j (s_kj - 2) / N_k."""
    score, where = model.variables["score"], network.score_slices
    weights = {
        "units": {layer.name: layer.units for layer in network.layers},
        "kernel": {layer.name: layer.units * layer.kernel for layer in network.layers},
        "network": dict.fromkeys(where, network.score_count),
        "total": dict.fromkeys(where, network.score_count),
    }[settings.layer_weight]
    count = len(network.layers) if settings.layer_weight == "total" else max(1, len(network.layers) - 1)
    for k, chosen in enumerate(itertools.combinations(network.layers, count)):
        share, constant = np.zeros(network.score_count + 1), 0.0
        for layer in chosen:
            share[where[layer.name]] = 1 / weights[layer.name]
            constant -= 2 * layer.units / weights[layer.name]
        term = (DataArray(share, dims=score.dims, coords=score.coords) * score).sum()
        model.add_constraints(largest - term >= constant, name=f"largest_{k}")


class _Writer:
    """Writes node after node into a model; `values` are their variables [activations, images]."""

    def __init__(self, network: Network, pixels: Array, settings: ScoreSettings) -> None:
        self.network, self.settings, self.model = network, settings, Model()
        self.images = np.arange(pixels.shape[1])
        box = input_box(pixels, settings.radius, settings.pixel_range)
        self.boxes: Mapping[str, Box] = propagate(network, box, valid=settings.gate == "exact")
        self.centres: Mapping[str, Box] = propagate(network, Box(pixels, pixels), valid=False)
        # the last entry, always 1, stands for the activations that no score acts on
        least = np.append(np.zeros(network.score_count), 1.0)
        coords = [("score", np.arange(len(least)))]
        whole = settings.integer_scores
        self.score = self.model.add_variables(least, np.ones(len(least)), coords=coords, name="score", integer=whole)
        self.values = {INPUT: self.variable("value", INPUT, pixels, pixels)}

    def variable(self, what: str, name: str, lower: Array, upper: Array) -> Variable:
        """A variable [activations, images] with these bounds."""
        coords = [(f"{what} in {name}", np.arange(len(lower))), ("image", self.images)]
        low, high = (DataArray(bound, coords=coords) for bound in (lower, upper))
        return self.model.add_variables(low, high, name=f"{what}_{name}")

    def phase(self, what: str, name: str, lower: Array, upper: Array) -> Variable:
        """`open` or `pick`: within bounds in [0, 1], and whole unless relaxed."""
        coords = [(f"{what} in {name}", np.arange(len(lower))), ("image", self.images)]
        low, high = (DataArray(bound, coords=coords) for bound in (lower, upper))
        return self.model.add_variables(low, high, name=f"{what}_{name}", integer=not self.settings.relax)

    def free(self, node: Node) -> Variable:
        """The node's value, without bounds."""
        wide = np.full((node.size, len(self.images)), np.inf)
        return self.variable("value", node.name, -wide, wide)

    def row(self, what: str, node: Node, constraint: ConstraintBase, where: NDArray[np.bool_] | None = None) -> None:
        """Add a constraint over a node's activations and images, or only `where`."""
        mask = None if where is None else like(constraint, where)
        self.model.add_constraints(constraint, name=f"{what}_{node.name}", mask=mask)

    def write(self, node: Node) -> None:
        """The node's value and its rows."""
        read = [self.values[name] for name in node.sources]
        match node.op:
            case Affine(weight, bias):
                dense = weight if isinstance(weight, np.ndarray) else weight.toarray()
                made = self.free(node)
                self.row("equals", node, made - times(dense, read[0], made) == like(made, bias[:, None]))
            case Add():
                made = self.free(node)
                same = [times(np.eye(node.size), each, made) for each in read]
                self.row("equals", node, made - sum(same[1:], same[0]) == 0)
            case Shift(score, amount):
                made = self.free(node)
                moved = times(amount[:, None] * self.acting(score), self.score, made)
                self.row("equals", node, made - times(np.eye(node.size), read[0], made) - moved == 0)
            case Relu():
                made = self.relu(node, node.op, read[0])
            case MaxPool():
                made = self.max_pool(node, node.op, read[0])
            case _:
                assert_never(node.op)
        self.values[node.name] = made

    def acting(self, score: Index) -> Array:
        """The matrix [activations, scores] that gives each activation its score."""
        one = np.zeros((len(score), self.network.score_count + 1))
        one[np.arange(len(score)), score] = 1.0  # -1 is the last, which is always 1
        return one

    def relu(self, node: Node, op: Relu, read: Variable) -> Variable:
        """(1) to (4); `exact` adds h <= s u+; `pattern` fixes every phase and asks only for h >= 0 and y <= 0,
        `linear` not even for these.

        M is l in `published` and l - u+ in `exact`, or l where no score acts.
        """
        box, centre = self.boxes[node.source], self.centres[node.source].lower
        wide = np.full(centre.shape, np.inf)
        least = -wide if self.settings.gate == "linear" else np.zeros(centre.shape)
        h = self.variable("value", node.name, least, wide)  # (1)
        y = times(np.eye(node.size), read, h)
        s = times(self.acting(op.score), self.score, h)
        if self.settings.gate in FIRST_ORDER:
            c = np.maximum(centre, 0.0)
            self.row("open", node, h - y - like(h, c) * s == like(h, -c), centre > 0)
            self.row("closed", node, 1 * h == 0, centre <= 0)
            if self.settings.gate == "pattern":
                self.row("held", node, y <= 0, centre <= 0)
            return h
        u = np.maximum(box.upper, 0.0)
        exact = self.settings.gate == "exact"
        m = box.lower - np.where(exact & (op.score >= 0)[:, None], u, 0.0)
        phase = self.phase("open", node.name, np.zeros(u.shape), np.ones(u.shape))
        open_ = times(np.eye(node.size), phase, h)
        self.row("closed", node, h - like(h, u) * open_ <= 0)  # (2)
        self.row("above", node, h - y - like(h, u) * s >= like(h, -u))  # (3)
        self.row("below", node, h - y - like(h, u) * s - like(h, m) * open_ <= like(h, -u - m))  # (4)
        if exact:
            self.row("cut", node, h - like(h, u) * s <= 0)
        return h

    def max_pool(self, node: Node, op: MaxPool, read: Variable) -> Variable:
        """(5) to (7), written over the members of the windows; the pick of a window that an input dominates is fixed.

        An input dominates where its lower bound is at least every other one's upper bound. In `pattern` the first
        maximum of the unpruned network is picked, and (6) is asked for only where picked, in `linear` (5) too.
        `exact` adds out <= max u.
        """
        top = self.top(op, self.boxes[node.source])
        free = np.full(top.shape, np.inf)
        out = self.variable("value", node.name, -free, top if self.settings.gate == "exact" else free)
        window, place = np.nonzero(op.windows >= 0)
        inputs = op.windows[window, place]
        of_window = np.eye(node.size)[window]
        picked, fixed = self.picked(op, self.boxes[node.source], window, place)
        pick = self.phase("pick", node.name, np.where(fixed, picked, 0.0), np.where(fixed, picked, 1.0))
        above = times(of_window, out, pick)
        h_j = times(np.eye(read.shape[0])[inputs], read, pick)
        everywhere = np.ones(picked.shape, dtype=bool)
        self.row("largest", node, above - h_j >= 0, picked > 0 if self.settings.gate == "linear" else everywhere)  # (5)
        slack = like(pick, top[window] - self.boxes[node.source].lower[inputs])
        asked = picked > 0 if self.settings.gate in FIRST_ORDER else everywhere
        self.row("picked", node, above - h_j + slack * pick <= slack, asked)  # (6)
        self.row("one", node, times(of_window.T, pick, out) == 1)  # (7)
        return out

    def top(self, op: MaxPool, box: Box) -> Array:
        """max_k u_k of each window."""
        return np.array([box.upper[members[members >= 0]].max(axis=0) for members in op.windows])

    def picked(self, op: MaxPool, box: Box, window: Index, place: Index) -> tuple[Array, NDArray[np.bool_]]:
        """Per member and image: 1 where its window's dominant input, and whether the window has one."""
        picked = np.zeros((len(window), len(self.images)))
        fixed = np.zeros(picked.shape, dtype=bool)
        for j, i in np.ndindex(len(op.windows), len(self.images)):
            members = np.flatnonzero(window == j)
            low, high = box.lower[op.windows[j, place[members]], i], box.upper[op.windows[j, place[members]], i]
            for k in range(len(members)):
                if not fixed[members, i].any() and (low[k] >= np.delete(high, k)).all():
                    picked[members[k], i], fixed[members, i] = 1.0, True
        return picked, fixed


def times(matrix: Array, variable: Variable, made: Variable) -> LinearExpression:
    """matrix @ variable as an expression over the first dimension of `made`."""
    to, fed = made.dims[0], variable.dims[0]
    coords = {to: made.coords[to], fed: variable.coords[fed]}
    if to == fed:
        raise ValueError(f"a value cannot be its own source: '{to}'")
    return (DataArray(matrix, dims=[to, fed], coords=coords) * variable).sum(fed)


def like(made: Variable | ConstraintBase, values: NDArray[Any]) -> DataArray:
    """An array [activations, images] over the dimensions of a variable or constraint."""
    dims = made.dims if isinstance(made, Variable) else made.coord_dims
    coords = {dim: made.indexes[dim] for dim in sorted(dims, key=lambda dim: dim == "image")}
    return DataArray(np.broadcast_to(values, [len(index) for index in coords.values()]), coords=coords)
