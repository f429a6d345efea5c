"""What is undecided, node by node, as linopy variables and inequalities."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from linopy import LinearExpression, Model
from scipy.sparse import csr_array, vstack
from xarray import DataArray

from formulation.coefficients import read_coefficients
from formulation.constraints import add_max_pool, add_relu, linear
from formulation.gates import Gate, PoolGate
from formulation.network import Array, Index, MaxPool, Node, Relu
from formulation.reduction import Reduction, Waiting
from formulation.sweeps import forward


@dataclass(frozen=True, eq=False)
class UndecidedNode:
    """The undecided activations or windows of one node over all slices, in the order of their columns.

    Attributes:
        activation: which they are, [k].
        value, phase: their columns, [k] and [k, window].
        cap: the largest that the value may be, u+ of a ReLU's, [k].
        big_m: M of a ReLU's [k]; max_k u_k - l_j of a window's members [members].
        read: what they read as a form over the columns: y of a ReLU [k], h_j of a window's members [members].
        constant: its constant.
    """

    node: Node
    activation: Index
    value: Index
    phase: Index
    cap: Array
    big_m: Array
    read: csr_array
    constant: Array
    cut: bool

    @staticmethod
    def all_of(reduction: Reduction) -> list[UndecidedNode]:
        """Everything undecided, node by node."""
        found: dict[str, list[UndecidedNode]] = {}
        for part in reduction.parts:
            if not part.waiting:
                continue
            at_zero = forward(reduction, part, np.zeros(reduction.columns)).read
            for name, waiting in part.waiting.items():
                node, gate = reduction.network.node(name), part.gates[name]
                read = partial(read_coefficients, reduction, part, name)
                if isinstance(gate, Gate):
                    made = _of_relu(node, waiting, gate, at_zero[name], read)
                else:
                    made = _of_pool(node, waiting, gate, at_zero[name], read)
                found.setdefault(name, []).append(made)
        return [_joined(pieces) for pieces in found.values()]

    @property
    def dim(self) -> str:
        return f"undecided_{self.node.name}"

    @property
    def members(self) -> tuple[Index, Index]:
        """Window and place in it of every member, in order."""
        window, place = np.nonzero(self.phase >= 0)
        return window, place

    def add_variables(self, model: Model, labels: Index, *, whole_phases: bool) -> None:
        name, count = self.node.name, len(self.value)
        phase = {"binary": True} if whole_phases else {"lower": 0.0, "upper": 1.0}
        coords = [(self.dim, np.arange(count))]
        if isinstance(self.node.op, Relu):
            hidden = model.add_variables(0.0, DataArray(self.cap, coords=coords), name=f"hidden_{name}")
            open_ = model.add_variables(coords=coords, name=f"open_{name}", **phase)
            labels[self.phase[:, 0]] = open_.labels.values
        else:
            hidden = model.add_variables(upper=DataArray(self.cap, coords=coords), name=f"out_{name}")
            members = [(f"member_{name}", np.arange(len(self.members[0])))]
            labels[self.phase[self.members]] = model.add_variables(
                coords=members, name=f"pick_{name}", **phase
            ).labels.values
        labels[self.value] = hidden.labels.values

    def add_inequalities(self, model: Model, labels: Index) -> None:
        name, variables, each = self.node.name, model.variables, np.arange(len(self.value))

        def expression(matrix: csr_array, constant: Array, dim: str) -> LinearExpression:
            return linear(model, matrix, labels, constant, dim)

        def column(columns: Index, dim: str) -> LinearExpression:
            rows = np.arange(len(columns))
            matrix = csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(rows), len(labels)))
            return expression(matrix, np.zeros(len(rows)), dim)

        if isinstance(self.node.op, Relu):
            score = self.node.op.score[self.activation]
            acted = score >= 0
            ones = csr_array((np.ones(acted.sum()), (each[acted], score[acted])), shape=(len(each), len(labels)))
            add_relu(
                model, name, y=expression(self.read, self.constant, self.dim),
                score=expression(ones, np.where(acted, 0.0, 1.0), self.dim), hidden=variables[f"hidden_{name}"],
                open_=variables[f"open_{name}"], cap=self.cap, big_m=self.big_m, cut=self.cut,
            )  # fmt: skip
            return
        window, place = self.members
        members = f"member_{name}"
        sums = csr_array((np.ones(len(window)), (window, self.phase[window, place])), shape=(len(each), len(labels)))
        add_max_pool(
            model, name, output=column(self.value[window], members),
            inputs=expression(self.read, self.constant, members), pick=variables[f"pick_{name}"],
            slack=self.big_m, picks=expression(sums, np.zeros(len(each)), self.dim),
        )  # fmt: skip


def _of_relu(node: Node, waiting: Waiting, gate: Gate, at_zero: Array, read: Callable[..., csr_array]) -> UndecidedNode:
    at = (waiting.activation, waiting.image)
    each = np.arange(len(waiting.value))
    weights = csr_array((np.ones(len(each)), (each, waiting.activation)), shape=(len(each), len(at_zero)))
    return UndecidedNode(
        node, waiting.activation, waiting.value, waiting.phase, gate.cap[at], gate.big_m[at],
        read(weights, waiting.image), at_zero[at], gate.cut,
    )  # fmt: skip


def _of_pool(
    node: Node, waiting: Waiting, gate: PoolGate, at_zero: Array, read: Callable[..., csr_array]
) -> UndecidedNode:
    assert isinstance(node.op, MaxPool)
    window, place = np.nonzero(waiting.phase >= 0)
    activation, image = waiting.activation[window], waiting.image[window]
    each, member = np.arange(len(window)), node.op.windows[activation, place]
    weights = csr_array((np.ones(len(each)), (each, member)), shape=(len(each), len(at_zero)))
    return UndecidedNode(
        node, waiting.activation, waiting.value, waiting.phase, gate.top[waiting.activation, waiting.image],
        gate.slack[activation, place, image],
        read(weights, image), at_zero[member, image], cut=False,
    )  # fmt: skip


def _joined(pieces: list[UndecidedNode]) -> UndecidedNode:
    """The pieces of all slices as one."""
    return UndecidedNode(
        node=pieces[0].node,
        activation=np.concatenate([p.activation for p in pieces]),
        value=np.concatenate([p.value for p in pieces]),
        phase=np.concatenate([p.phase for p in pieces]),
        cap=np.concatenate([p.cap for p in pieces]),
        big_m=np.concatenate([p.big_m for p in pieces]),
        read=csr_array(vstack([p.read for p in pieces], format="csr")),
        constant=np.concatenate([p.constant for p in pieces]),
        cut=pieces[0].cut,
    )
