"""Affine forms of columns, the encoding of what is unstable over them, and that of a network over a box of inputs.

Over a box every value is an affine form of columns, first the caller's, then those of what is unstable before it:

    y = W h + b      an affine map of forms is a form
    h = 0            u <= 0, or the unit is removed
    h = y            l >= 0
    h = its column   l < 0 < u

with l <= y <= u by interval arithmetic over the form, which is never wider than layer after layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from formulation.network import (
    INPUT,
    Add,
    Affine,
    Array,
    ChannelGate,
    Differentiable,
    Index,
    MaxPool,
    Network,
    Node,
    Relu,
    Shift,
    Unstable,
    not_lowered,
    per_activation,
)
from formulation.relaxation.bounds import Box, propagate


@dataclass(frozen=True, eq=False)
class Form:
    """Affine forms of the columns: matrix [activations, columns so far] and constant [activations]."""

    matrix: csr_array
    constant: Array

    def at(self, rows: Index) -> Form:
        """The forms of some activations."""
        return Form(csr_array(self.matrix[rows]), self.constant[rows])

    def scaled(self, factor: Array) -> Form:
        """Each form times its factor; a factor of 0 leaves no coefficients."""
        matrix = csr_array(self.matrix.multiply(factor[:, None]))
        matrix.eliminate_zeros()
        return Form(matrix, self.constant * factor)

    def widened(self, width: int) -> Form:
        """The same forms over more columns."""
        old = self.matrix
        return Form(csr_array((old.data, old.indices, old.indptr), shape=(old.shape[0], width)), self.constant)

    def with_own(self, rows: Index, columns: Index) -> Form:
        """The forms, 0 at `rows` before, with a column of its own for each of `rows`."""
        width = int(columns[-1]) + 1
        own = csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(self.constant), width))
        return Form(csr_array(self.widened(width).matrix + own), self.constant)


@dataclass(frozen=True, eq=False)
class Encoding:
    """The unstable activations or windows of one node as a program states them, in the order of their columns.

    Attributes:
        node: a ReLU or a max-pool.
        unstable: which they are, and their columns.
        read: what they read: y of a ReLU [k], h_j of the windows' members [members].
        low, cap: bounds of the value, 0 and u+ of a ReLU's, [k].
        big_m: M of a ReLU's [k]; the slack of (6) of the windows' members [members].
        cut: whether the valid inequality of `exact` holds.
    """

    node: Node
    unstable: Unstable
    read: Form
    low: Array
    cap: Array
    big_m: Array
    cut: bool = False

    @staticmethod
    def joined(pieces: Sequence[Encoding]) -> Encoding:
        """Several of one node as one."""
        matrix = csr_array(vstack([p.read.matrix for p in pieces], format="csr"))
        return Encoding(
            pieces[0].node,
            Unstable.joined([p.unstable for p in pieces]),
            Form(matrix, np.concatenate([p.read.constant for p in pieces])),
            low=np.concatenate([p.low for p in pieces]),
            cap=np.concatenate([p.cap for p in pieces]),
            big_m=np.concatenate([p.big_m for p in pieces]),
            cut=pieces[0].cut,
        )


@dataclass(eq=False)
class _Columns:
    """The columns' bounds and what was encoded so far, in topological order."""

    lower: Array
    upper: Array
    encodings: list[Encoding] = field(default_factory=list)

    def box(self, name: str, form: Form) -> Box:
        """Bounds [activations] of the forms at node `name`; raises InvalidBounds."""
        width = len(self.lower)
        node = Node(name, Affine(form.widened(width).matrix, form.constant), (INPUT,), len(form.constant))
        columns = Box(self.lower[:, None], self.upper[:, None])
        box = propagate(Network((node,), (), width), columns, valid=False)[name]
        return Box(box.lower[:, 0], box.upper[:, 0])

    def new(self, activation: Index, places: NDArray[np.bool_]) -> Unstable:
        """Columns for some activations or windows of the one image, and for the phases of each [k, window]."""
        where = np.stack([activation, np.zeros_like(activation)], axis=1)
        return Unstable.columns(where, places, len(self.lower))

    def add(self, made: Encoding) -> None:
        """Remember what was encoded; its phases lie in [0, 1]."""
        phases = np.zeros(made.unstable.count - len(made.unstable))
        self.lower = np.concatenate([self.lower, made.low, phases])
        self.upper = np.concatenate([self.upper, made.cap, phases + 1])
        self.encodings.append(made)


def plan_network(network: Network, inputs: Form, box: Box, kept: Array) -> tuple[tuple[Encoding, ...], Form, Box]:
    """What is unstable in a network, encoded, and its outputs as forms with their bounds.

    Args:
        network: the lowered network.
        inputs: forms of the caller's columns, one per input.
        box: bounds of these columns, arrays [columns].
        kept: one 0 or 1 per unit of all scored layers; a removed unit emits 0.

    Raises:
        InvalidBounds: bounds that overflow.
    """
    columns, forms = _Columns(box.lower, box.upper), {INPUT: inputs}
    for node in network.nodes:
        sources = [forms[name] for name in node.sources]
        match node.op:
            case Affine(weight, bias):
                matrix = csr_array(csr_array(weight) @ sources[0].matrix)
                made = Form(matrix, weight @ sources[0].constant + bias)
            case Relu(score):
                # the ReLU of 0 is stable: a removed unit has neither terms nor a binary
                made = _relu(columns, node, sources[0].scaled(per_activation(kept, score)))
            case ChannelGate(score):
                made = sources[0].scaled(per_activation(kept, score))
            case MaxPool(windows):
                made = _pool(columns, node, sources[0], windows)
            case Add():
                wide = [source.widened(len(columns.lower)) for source in sources]
                matrix = csr_array(sum((each.matrix for each in wide[1:]), wide[0].matrix))
                made = Form(matrix, np.sum([each.constant for each in wide], axis=0))
            case Shift(score, amount):
                made = Form(sources[0].matrix, sources[0].constant + amount * per_activation(kept, score))
            case Differentiable():
                raise not_lowered("an embedding")
            case _:
                assert_never(node.op)
        forms[node.name] = made
    last = network.nodes[-1].name
    return tuple(columns.encodings), forms[last], columns.box(last, forms[last])


def _relu(columns: _Columns, node: Node, y: Form) -> Form:
    box = columns.box(node.name, y)
    stable = y.scaled((box.lower >= 0).astype(float))
    chosen = np.flatnonzero((box.lower < 0) & (box.upper > 0))
    if not len(chosen):
        return stable
    unstable = columns.new(chosen, np.ones((len(chosen), 1), dtype=bool))
    low = np.zeros(len(chosen))
    columns.add(Encoding(node, unstable, y.at(chosen), low, box.upper[chosen], box.lower[chosen]))
    return stable.with_own(chosen, unstable.value)


def _pool(columns: _Columns, node: Node, h: Form, windows: Index) -> Form:
    """A member that another one always reaches is dropped; the only one left is the maximum."""
    box = columns.box(node.name, h)
    there = windows >= 0
    lower, upper = (np.where(there, bound[windows], -np.inf) for bound in (box.lower, box.upper))
    each = np.arange(len(windows))
    safest = lower.argmax(axis=1)
    reached = lower[each, safest]
    left = there & (upper > reached[:, None])
    left[each, safest] = True
    chosen = np.flatnonzero(left.sum(axis=1) > 1)
    stable = h.at(windows[each, safest]).scaled(np.isin(each, chosen, invert=True).astype(float))
    if not len(chosen):
        return stable
    upper = np.where(left, upper, -np.inf)[chosen]
    unstable = columns.new(chosen, left[chosen])
    window, place = unstable.members
    ranked = np.sort(upper, axis=1)
    others = np.where(place == upper.argmax(axis=1)[window], ranked[window, -2], ranked[window, -1])
    source = windows[chosen[window], place]
    big_m = others - box.lower[source]
    columns.add(Encoding(node, unstable, h.at(source), reached[chosen], ranked[:, -1], big_m))
    return stable.with_own(chosen, unstable.value)
