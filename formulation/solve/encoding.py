"""Encoding of what is unstable in a reduced scoring set as linopy variables and constraints."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from formulation.network import Array, Index, MaxPool, Node, Relu, Unstable
from formulation.relaxation import (
    POOL_FAMILIES,
    Encoding,
    Form,
    Gate,
    PoolGate,
    Reduction,
    forward,
    read_coefficients,
)
from formulation.solve.constraints import add_max_pool, add_relu, labelled_array, linear_expression

if TYPE_CHECKING:
    from linopy import LinearExpression, Model


def encodings(reduction: Reduction) -> list[Encoding]:
    """Everything unstable, node by node, over all batches."""
    found: dict[str, list[Encoding]] = {}
    for batch in reduction.batches:
        if not batch.unstable:
            continue
        at_zero = forward(reduction, batch, np.zeros(reduction.columns)).read
        for name, unstable in batch.unstable.items():
            node, gate = reduction.network.node(name), batch.gates[name]
            read = partial(read_coefficients, reduction, batch, name)
            if isinstance(gate, Gate):
                made = _of_relu(node, unstable, gate, at_zero[name], read)
            else:
                made = _of_pool(node, unstable, gate, at_zero[name], read)
            found.setdefault(name, []).append(made)
    return [Encoding.joined(pieces) for pieces in found.values()]


def add_variables(model: Model, made: Encoding, labels: Index, *, whole_phases: bool) -> None:
    """Add what is unstable in a node to a model, and linopy's labels of it to `labels`, one per column."""
    name, columns = made.node.name, made.unstable
    phase = {"binary": True} if whole_phases else {"lower": 0.0, "upper": 1.0}
    coords = [(_dim(made), np.arange(len(columns)))]
    if isinstance(made.node.op, Relu):
        hidden = model.add_variables(0.0, labelled_array(made.cap, coords), name=f"hidden_{name}")
        open_ = model.add_variables(coords=coords, name=f"open_{name}", **phase)
        labels[columns.phase[:, 0]] = open_.labels.values
    else:
        lower, upper = labelled_array(made.low, coords), labelled_array(made.cap, coords)
        hidden = model.add_variables(lower, upper, name=f"out_{name}")
        members = [(f"member_{name}", np.arange(len(columns.members[0])))]
        pick = model.add_variables(coords=members, name=f"pick_{name}", **phase)
        labels[columns.phase[columns.members]] = pick.labels.values
    labels[columns.value] = hidden.labels.values


def add_inequalities(model: Model, made: Encoding, labels: Index) -> None:
    """Add the inequalities of what `add_variables` added."""
    name, columns, variables = made.node.name, made.unstable, model.variables
    each = np.arange(len(columns))

    def expression(form: Form, dim: str) -> LinearExpression:
        return linear_expression(model, form.matrix, labels, form.constant, dim)

    def ones(rows: Index, chosen: Index, constant: Array) -> Form:
        """Sums of columns, by row."""
        matrix = csr_array((np.ones(len(rows)), (rows, chosen)), shape=(len(constant), len(labels)))
        return Form(matrix, constant)

    if isinstance(made.node.op, Relu):
        score = made.node.op.score[columns.activation]
        acted, none = score >= 0, np.zeros(len(each))
        symbols = {
            "h": ones(each, columns.value, none),
            "open": ones(each, columns.phase[:, 0], none),
            "y": made.read,
            "s": ones(each[acted], score[acted], np.where(acted, 0.0, 1.0)),
        }
        add_relu(model, name, symbols, labels, dim=_dim(made), cap=made.cap, big_m=made.big_m, cut=made.cut)
        return
    window, place = columns.members
    members = f"member_{name}"
    own = ones(np.arange(len(window)), columns.value[window], np.zeros(len(window)))
    sums = ones(window, columns.phase[window, place], np.zeros(len(each)))
    add_max_pool(
        model, {family: f"{family}_{name}" for family in POOL_FAMILIES}, output=expression(own, members),
        inputs=expression(made.read, members), pick=variables[f"pick_{name}"], slack=made.big_m,
        picks=expression(sums, _dim(made)),
    )  # fmt: skip


def _dim(made: Encoding) -> str:
    return f"unstable_{made.node.name}"


def _of_relu(node: Node, unstable: Unstable, gate: Gate, at_zero: Array, read: Callable[..., csr_array]) -> Encoding:
    at = (unstable.activation, unstable.image)
    each = np.arange(len(unstable))
    weights = csr_array((np.ones(len(each)), (each, unstable.activation)), shape=(len(each), len(at_zero)))
    y = Form(read(weights, unstable.image), at_zero[at])
    return Encoding(node, unstable, y, np.zeros(len(each)), gate.cap[at], gate.big_m[at], gate.cut)


def _of_pool(
    node: Node, unstable: Unstable, gate: PoolGate, at_zero: Array, read: Callable[..., csr_array]
) -> Encoding:
    assert isinstance(node.op, MaxPool)
    window, place = unstable.members
    activation, image = unstable.activation[window], unstable.image[window]
    each, member = np.arange(len(window)), node.op.windows[activation, place]
    weights = csr_array((np.ones(len(each)), (each, member)), shape=(len(each), len(at_zero)))
    h = Form(read(weights, image), at_zero[member, image])
    top = gate.top[unstable.activation, unstable.image]
    return Encoding(node, unstable, h, np.full(len(top), -np.inf), top, gate.slack[activation, place, image])
