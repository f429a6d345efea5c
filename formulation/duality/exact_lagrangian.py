"""Lagrangian of the relaxed program in enclosures: one pass backwards per batch, every rounding counted against it.

With a the weights on a value,

    y = W h + b           constant += a' b,    a_h += W' a
    h = y - (1 - s) cap   constant -= a' cap,  coefficient of s += cap a
    h = its own column    coefficient of the column += a
    h = pixels            constant += a' pixels
    o = o' + J (s - 1)    constant += a' o' - a' J 1,  coefficient of s += J' a

the last for a network that can only be differentiated, whose coefficients o' and J are those of its derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy.sparse import csr_array

from formulation.duality.duals import DualisedBatch, DualisedCuts
from formulation.duality.enclosures import TINY, Enclosure, gathered, through
from formulation.duality.implied_ranges import implied_ranges
from formulation.network import (
    INPUT,
    Add,
    Affine,
    Array,
    ChannelGate,
    Differentiable,
    Index,
    Matrix,
    MaxPool,
    Network,
    Relu,
    Shift,
)
from formulation.relaxation import (
    ACTIVE,
    NO_PICK,
    Reduction,
    picked_inputs,
    pool_duals,
    pool_gate_of,
    relu_duals,
    relu_gate_of,
)


class ExactLagrangian:
    """L as it grows: its constant, its gradient, and the columns' bounds."""

    def __init__(self, reduction: Reduction) -> None:
        self.reduction = reduction
        self.constants: list[Enclosure] = []
        self.gradient = Enclosure.exactly(np.zeros(reduction.columns))
        self.low, self.high = np.zeros(reduction.columns), np.ones(reduction.columns)

    def add(self, constant: Enclosure) -> None:
        self.constants.append(constant.total())

    def add_batch(self, duals: DualisedBatch, weight: Enclosure, slopes: Enclosure) -> None:
        """A batch's share of L: its images' weight in the loss, and that one's slopes [classes, images of all]."""
        _BatchTerms(self, duals).add(weight, slopes)

    def add_gradient(self, column: Index, values: Enclosure) -> None:
        self.gradient = self.gradient + gathered(values, column, len(self.low))

    def minimum(self) -> float:
        """The constant and every column at its worse end, rounded down."""
        ends = [end * bound for end in (self.gradient.low, self.gradient.high) for bound in (self.low, self.high)]
        worst = np.nextafter(np.minimum.reduce(ends) - TINY, -np.inf)
        batches = [*worst, *(float(each.low) for each in self.constants)]
        if not np.isfinite(batches).all():
            return -math.inf
        try:
            return math.nextafter(math.fsum(batches), -math.inf)
        except OverflowError:
            return -math.inf


class _BatchTerms:
    """One batch of the scoring set: weights on its values, then the pass backwards."""

    def __init__(self, whole: ExactLagrangian, duals: DualisedBatch) -> None:
        self.whole, self.duals, self.batch = whole, duals, duals.batch
        self.network: Network = whole.reduction.network
        self.weights: dict[str, Enclosure] = {}

    def add(self, weight: Enclosure, slopes: Enclosure) -> None:
        """The batch's share of L."""
        self._send(self.network.nodes[-1].name, slopes[:, self.batch.where] * weight)
        for cuts in self.duals.cuts:
            self._add_cuts(cuts)
        ranges: dict[str, Enclosure] = {}
        if any(isinstance(self.network.node(name).op, MaxPool) for name in self.duals.unstable):
            ranges = implied_ranges(self.network, self.batch)
        for name, dual in self.duals.unstable.items():
            if isinstance(self.network.node(name).op, MaxPool):
                self._add_windows(name, dual, ranges[name])
            else:
                self._add_relus(name, dual)
        self._propagate()

    def _send(self, value: str, weights: Enclosure) -> None:
        self.weights[value] = self.weights[value] + weights if value in self.weights else weights

    def _put(self, value: str, activation: Index, image: Index, weights: Enclosure) -> None:
        """Weights [k] on single activations of a value."""
        shape = (self.network.size(value), self.batch.images)
        flat = gathered(weights, activation * self.batch.images + image, shape[0] * shape[1])
        self._send(value, Enclosure(flat.middle.reshape(shape), flat.radius.reshape(shape)))

    def _add_cuts(self, cuts: DualisedCuts) -> None:
        """- mu (cut - bound) of stable activations and windows."""
        node, index = cuts.node, cuts.index
        dual = Enclosure.exactly(cuts.dual)
        self.whole.add(dual.times(cuts.bound))
        if isinstance(node.op, MaxPool):
            plus, minus = picked_inputs(self.batch, self.network, node.name, index)
            self._put(node.source, plus, index[-1], -dual)
            self._put(node.source, minus, index[-1], dual)
            return
        assert isinstance(node.op, Relu)
        self._put(node.source, index[0], index[-1], -dual)
        gate, score = relu_gate_of(self.batch, node.name), node.op.score[index[0]]
        acts = (gate.state[index] == ACTIVE) & (score >= 0)
        lost = dual[acts].times(gate.cap[index][acts])
        self.whole.add(lost)
        self.whole.add_gradient(score[acts], -lost)

    def _add_relus(self, name: str, dual: Mapping[str, Array]) -> None:
        """- mu times what a ReLU's inequalities say is at least 0."""
        unstable, node, gate = self.batch.unstable[name], self.network.node(name), relu_gate_of(self.batch, name)
        assert isinstance(node.op, Relu)
        at = (unstable.activation, unstable.image)
        exactly = {family: Enclosure.exactly(each) for family, each in dual.items()}
        taken = relu_duals(exactly, gate.cap[at], gate.big_m[at], _products, cut=gate.cut)
        score = node.op.score[unstable.activation]
        scored = score >= 0
        self._put(node.source, *at, -taken["y"])
        self.whole.add_gradient(score[scored], -taken["s"][scored])
        self.whole.add_gradient(unstable.value, -taken["h"])
        self.whole.add_gradient(unstable.phase[:, 0], -taken["open"])
        self.whole.high[unstable.value] = gate.cap[at]
        self.whole.add(-taken[""] - taken["s"].where(~scored))

    def _add_windows(self, name: str, dual: Mapping[str, Array], range_: Enclosure) -> None:
        """- mu times what a window's inequalities say is at least 0, or 0."""
        unstable, node, gate = self.batch.unstable[name], self.network.node(name), pool_gate_of(self.batch, name)
        assert isinstance(node.op, MaxPool)
        window, place = unstable.members
        activation, image = unstable.activation[window], unstable.image[window]
        member, slack = node.op.windows[activation, place], gate.slack[activation, place, image]
        exactly = {family: Enclosure.exactly(each) for family, each in dual.items()}
        taken, of_windows = pool_duals(exactly, slack, _products)
        self._put(node.source, member, image, -taken["h"])
        self.whole.add_gradient(unstable.value[window], -taken["out"])
        self.whole.add_gradient(unstable.phase[window, place], -taken["pick"] - of_windows["picks"][window])
        at = (unstable.activation, unstable.image)
        self.whole.low[unstable.value], self.whole.high[unstable.value] = range_.low[at], range_.high[at]
        self.whole.add(-taken[""])
        self.whole.add(-of_windows[""])

    def _propagate(self) -> None:
        """The collected weights carried back to the scores, the columns and the pixels."""
        for node in reversed(self.network.nodes):
            a = self.weights.pop(node.name, None)
            if a is None:
                continue
            match node.op:
                case Affine(weight, bias):
                    self.whole.add(a.times(bias[:, None]))
                    self._send(node.source, through(_transposed(weight), a))
                case Add():
                    for source in node.sources:
                        self._send(source, a)
                case Shift(score, amount):
                    self._on_scores(score, a.times(amount[:, None]), always=True)
                    self._send(node.source, a)
                case Relu(score) | ChannelGate(score):
                    gate = relu_gate_of(self.batch, node.name)
                    is_open = gate.state == ACTIVE
                    lost = a.where(is_open).times(np.where((score >= 0)[:, None], gate.cap, 0.0))
                    self.whole.add(-lost)
                    self._on_scores(score, lost, always=False)
                    self._own(node.name, a)
                    self._send(node.source, a.where(is_open))
                case MaxPool(windows):
                    self._own(node.name, a)
                    pick = pool_gate_of(self.batch, node.name).pick
                    output, image = np.nonzero(pick != NO_PICK)
                    chosen = windows[output, pick[output, image]]
                    self._put(node.source, chosen, image, a[output, image])
                case Differentiable():
                    self._on_first_order(node.op, a)
        if INPUT in self.weights:
            self.whole.add(self.weights.pop(INPUT).times(self.batch.pixels))

    def _on_first_order(self, op: Differentiable, a: Enclosure) -> None:
        logits, jacobian = op.passes.jacobian(self.batch.pixels)
        self.whole.add(a.times(logits))
        for label in range(len(logits)):
            pulls = through(jacobian[:, label].T, a[label][:, None])[:, 0]
            self.whole.add(-pulls)
            self.whole.add_gradient(op.score[op.score >= 0], pulls[op.score >= 0])
            self.whole.add(pulls[op.score < 0])

    def _on_scores(self, score: Index, weights: Enclosure, *, always: bool) -> None:
        """Weights [activations, images] on the scores that act on them; with `always` the others are constants."""
        scored = score >= 0
        self.whole.add_gradient(score[scored], weights[scored].row_sums())
        if always:
            self.whole.add(weights[~scored])

    def _own(self, name: str, a: Enclosure) -> None:
        if name in self.batch.unstable:
            unstable = self.batch.unstable[name]
            self.whole.add_gradient(unstable.value, a[unstable.activation, unstable.image])


def _products(duals: Enclosure, numbers: Array) -> Enclosure:
    """Duals times numbers; a sign alone rounds nothing."""
    if np.ndim(numbers):
        return duals.times(numbers)
    return duals if numbers > 0 else -duals


def _transposed(weight: Matrix) -> Matrix:
    return weight.T if isinstance(weight, np.ndarray) else csr_array(weight.T)
