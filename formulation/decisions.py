"""What of a network over a box of inputs needs variables of its own: undecided ReLUs and windows of max-pools.

Every value is an affine form of columns, first the caller's, then those of the undecided activations before it:

    y = W h + b      an affine map of forms is a form
    h = 0            u <= 0, or the unit is removed
    h = y            l >= 0
    h = its column   l < 0 < u

with l <= y <= u by interval arithmetic over the form, which is never wider than layer after layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

import numpy as np
from scipy.sparse import csr_array

from formulation.bounds import Box, propagate
from formulation.network import INPUT, Add, Affine, Array, Index, MaxPool, Network, Node, Relu, Shift, per_activation


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
class UndecidedRelu:
    """Activations with l < 0 < u: positions in their node, pre-activations and their bounds l and u."""

    node: str
    position: Index
    y: Form
    lower: Array
    upper: Array


@dataclass(frozen=True, eq=False)
class UndecidedPool:
    """Windows with several possible maxima: positions in their node and bounds of the maximum.

    Per candidate: its window (an index into `position`), its form, and M = u' - l, u' the largest u of the others.
    """

    node: str
    position: Index
    lower: Array
    upper: Array
    window: Index
    candidate: Form
    big_m: Array


@dataclass(eq=False)
class Plan:
    """The columns' bounds and the undecided blocks, in topological order."""

    lower: Array
    upper: Array
    blocks: list[UndecidedRelu | UndecidedPool] = field(default_factory=list)

    def box(self, name: str, form: Form) -> Box:
        """Bounds [activations] of the forms at node `name`; raises InvalidBounds."""
        width = len(self.lower)
        node = Node(name, Affine(form.widened(width).matrix, form.constant), (INPUT,), len(form.constant))
        columns = Box(self.lower[:, None], self.upper[:, None])
        box = propagate(Network((node,), (), width), columns, valid=False)[name]
        return Box(box.lower[:, 0], box.upper[:, 0])

    def add(self, block: UndecidedRelu | UndecidedPool) -> Index:
        """Remember the block; returns its columns."""
        first = len(self.lower)
        lower = np.zeros_like(block.lower) if isinstance(block, UndecidedRelu) else block.lower
        self.lower, self.upper = np.append(self.lower, lower), np.append(self.upper, block.upper)
        self.blocks.append(block)
        return np.arange(first, len(self.lower))


def plan_network(network: Network, inputs: Form, box: Box, kept: Array) -> tuple[Plan, Form, Box]:
    """The undecided blocks of a network, and its outputs as forms with their bounds.

    Args:
        network: the lowered network.
        inputs: forms of the caller's columns, one per input.
        box: bounds of these columns, arrays [columns].
        kept: one 0 or 1 per unit of all scored layers; a removed unit emits 0.

    Raises:
        InvalidBounds: bounds that overflow.
    """
    plan, forms = Plan(box.lower, box.upper), {INPUT: inputs}
    for node in network.nodes:
        sources = [forms[name] for name in node.sources]
        match node.op:
            case Affine(weight, bias):
                matrix = csr_array(csr_array(weight) @ sources[0].matrix)
                made = Form(matrix, weight @ sources[0].constant + bias)
            case Relu(score):
                # the ReLU of 0 is decided: a removed unit has neither terms nor a binary
                made = _relu(plan, node.name, sources[0].scaled(per_activation(kept, score)))
            case MaxPool(windows):
                made = _pool(plan, node.name, sources[0], windows)
            case Add():
                wide = [source.widened(len(plan.lower)) for source in sources]
                matrix = csr_array(sum((each.matrix for each in wide[1:]), wide[0].matrix))
                made = Form(matrix, np.sum([each.constant for each in wide], axis=0))
            case Shift(score, amount):
                made = Form(sources[0].matrix, sources[0].constant + amount * per_activation(kept, score))
            case _:
                assert_never(node.op)
        forms[node.name] = made
    last = network.nodes[-1].name
    return plan, forms[last], plan.box(last, forms[last])


def _relu(plan: Plan, name: str, y: Form) -> Form:
    box = plan.box(name, y)
    decided = y.scaled((box.lower >= 0).astype(float))
    waiting = np.flatnonzero((box.lower < 0) & (box.upper > 0))
    if not len(waiting):
        return decided
    block = UndecidedRelu(name, waiting, y.at(waiting), box.lower[waiting], box.upper[waiting])
    return decided.with_own(waiting, plan.add(block))


def _pool(plan: Plan, name: str, h: Form, windows: Index) -> Form:
    """A candidate that another one always reaches is dropped; the only one left is the maximum."""
    box = plan.box(name, h)
    there = windows >= 0
    lower, upper = (np.where(there, bound[windows], -np.inf) for bound in (box.lower, box.upper))
    each = np.arange(len(windows))
    safest = lower.argmax(axis=1)
    reached = lower[each, safest]
    left = there & (upper > reached[:, None])
    left[each, safest] = True
    waiting = np.flatnonzero(left.sum(axis=1) > 1)
    decided = h.at(windows[each, safest]).scaled(np.isin(each, waiting, invert=True).astype(float))
    if not len(waiting):
        return decided
    upper = np.where(left, upper, -np.inf)[waiting]
    window, place = np.nonzero(left[waiting])
    ranked = np.sort(upper, axis=1)
    others = np.where(place == upper.argmax(axis=1)[window], ranked[window, -2], ranked[window, -1])
    source = windows[waiting[window], place]
    big_m = others - box.lower[source]
    block = UndecidedPool(name, waiting, reached[waiting], ranked[:, -1], window, h.at(source), big_m)
    return decided.with_own(waiting, plan.add(block))
