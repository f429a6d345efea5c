"""A lower bound that anyone can compute again: duals on the constraints, and what they leave to minimise.

By convexity every probability vector p gives, for logits o of an image with label y,

    log sum_c exp o_c - o_y  >=  sum_c p_c o_c + H(p) - o_y,      H(p) = - sum_c p_c log p_c

and by duality every nu in [0, 1]^n with sum m gives  sum of the m largest t_k >= sum_k nu_k t_k. Duals mu of the
right sign on constraints that hold, a_r x >= b_r, take away only what is at least 0. So, for every feasible point x,

    objective >= L(x) = loss_weight mean_i [p_i . o_i(x) + H(p_i) - o_i,y_i(x)]
                        + sum_k nu_k t_k(s) - sum_r mu_r (a_r x - b_r)

where L is affine in the scores and the unstable columns: its minimum over their bounds is a sum over columns. The
duals come from a solver's linear program (the weights that its duals put on an image's loss cuts mix the
loss cuts' softmax vectors into p_i); that the bound they prove is one, is plain arithmetic in float64.
The gradient of L by a score is that score's reduced cost. The output of an unstable max-pool window may have no bound;
the duals then cancel on it, and what a solver's tolerance leaves of them, up to NEGLECTED, is taken as 0.
`loss_duals` has what takes the place of p and H for the squared loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from formulation.duality.duals import DualisedBatch, dualised, proper
from formulation.duality.loss_duals import constants, given_of, slopes
from formulation.network import Array, Differentiable, MaxPool, Relu
from formulation.relaxation import (
    ACTIVE,
    NO_GATE,
    POOL_FAMILIES,
    RELU_FAMILIES,
    Cuts,
    Gate,
    ReducedBatch,
    Reduction,
    SolverDuals,
    Trace,
    backward_in_all,
    forward,
    layer_weight,
    picked_inputs,
    pool_duals,
    relu_duals,
)
from formulation.solution import DualBound

NEGLECTED = 1e-7


@dataclass(frozen=True, eq=False)
class Lagrangian:
    """L of duals: its value where every column is 0, its gradient [columns], and its minimum over their bounds."""

    constant: float
    gradient: Array
    bound: float


def from_duals(reduction: Reduction, cuts: Cuts, duals: SolverDuals) -> DualBound:
    """The dual bound in a linear program's duals.

    Loss cuts are tangents of the loss, so their duals give its slopes a, and p: a_ic = p_ic - [c = y_i] is
    n / loss_weight times the sum of dual times what the cut takes off logit c of image i.

    Args:
        reduction: the scoring set in score space, of n images.
        cuts: those that the program was given, in order; the duals may speak of fewer.
        duals: of a solver, on the relaxed program.
    """
    network, images = reduction.network, reduction.images
    held = duals.cuts[: len(cuts)]
    pulls = np.zeros(network.classes * images)
    pulls[: cuts.on_logits.shape[1]] = np.maximum(held, 0.0) @ cuts.on_logits
    made = pulls.reshape(network.classes, images) * (images / reduction.settings.loss_weight)
    given = given_of(made, reduction.labels, reduction.settings.loss)
    gated = (cuts.source[:, 0] != NO_GATE) & (held != 0)
    layers = duals.named["sparsity"]
    families = {
        f"{family}/{node.name}": np.asarray(duals.named[f"{family}_{node.name}"])
        for node in network.nodes
        for family in (*RELU_FAMILIES, *POOL_FAMILIES)
        if f"{family}_{node.name}" in duals.named
    }
    return DualBound(given, np.abs(layers), cuts.source[gated], held[gated], families)


def lagrangian(reduction: Reduction, dual_bound: DualBound) -> Lagrangian:
    """L of a dual bound and its minimum: a lower bound on the objective of every feasible point.

    The bound holds whatever the duals: signs are put right, and what nothing bounds makes it minus infinity.

    Args:
        reduction: the scoring set in score space.
        dual_bound: its duals.

    Returns:
        The bound in units of the objective, and L's gradient by the columns.
    """
    network, settings = reduction.network, reduction.settings
    dual_bound = proper(dual_bound, network, settings.layer_weight, settings.loss)
    weight = settings.image_weight(reduction.images)
    constant = weight * constants(dual_bound.probabilities, reduction.labels, settings.loss)
    gradient = np.zeros(reduction.columns)
    for layer, share in zip(network.layers, dual_bound.layers, strict=True):
        size = layer_weight(network, layer, settings.layer_weight)
        gradient[network.score_slices[layer.name]] += share / size
        constant -= share * 2 * layer.units / size
    low, high = np.zeros(reduction.columns), np.ones(reduction.columns)
    for duals in dualised(reduction, dual_bound):
        whole = network.differentiable
        if whole is not None and duals.batch.first_order is None:
            pulls = logit_weights(reduction, duals.batch, dual_bound)
            made = _first_order(reduction, whole, duals.batch, pulls)
            constant, gradient = constant + made[0], gradient + made[1]
            continue
        piece = _Piece(reduction, duals, gradient)
        constant += piece.add_loss(dual_bound) + piece.add_cuts() + piece.add_unstable(low, high)
        gradient += piece.propagated()
    end = np.where(gradient > 0, low, high)
    # the solver's duals cancel on a column without bounds but for its tolerance, which is taken as 0
    gradient[~np.isfinite(end) & (np.abs(gradient) <= NEGLECTED)] = 0.0
    end[gradient == 0] = 0.0
    return Lagrangian(constant, gradient, constant + float(gradient @ end))


def logit_weights(reduction: Reduction, batch: ReducedBatch, dual_bound: DualBound) -> Array:
    """The weights that a batch's logits have in L, [classes, images].

    Args:
        reduction, batch: the scoring set and the batch of it.
        dual_bound: `proper` duals.
    """
    settings = reduction.settings
    made = slopes(dual_bound.probabilities[:, batch.where], batch.labels, settings.loss)
    return settings.image_weight(reduction.images) * made


def _first_order(reduction: Reduction, whole: Differentiable, batch: ReducedBatch, pulls: Array) -> tuple[float, Array]:
    """What pulls . (o + J (s - 1)) adds to L, by one pass: its value at scores 0, and its gradient by the scores."""
    logits, on_gates = whole.passes.pulled(batch.pixels, pulls)
    gradient: Array = reduction.spread[reduction.network.nodes[-1].name] @ on_gates.sum(axis=0)
    return float((pulls * logits).sum() - gradient.sum()), gradient


class _Piece:
    """What one batch of the scoring set adds to L: weights on its values, then one pass backwards."""

    def __init__(self, reduction: Reduction, duals: DualisedBatch, gradient: Array) -> None:
        self.reduction, self.duals, self.batch = reduction, duals, duals.batch
        self.network = reduction.network
        self.gradient = gradient
        self.at_zero: Trace = forward(reduction, self.batch, np.zeros(reduction.columns))
        self.weights: dict[str, Array] = {}

    def on(self, value: str) -> Array:
        """The weights on a value, [activations, images], to be added to."""
        return self.weights.setdefault(value, np.zeros((self.network.size(value), self.batch.images)))

    def add_loss(self, dual_bound: DualBound) -> float:
        pulls = logit_weights(self.reduction, self.batch, dual_bound)
        self.on(self.network.nodes[-1].name)[...] += pulls
        return float((pulls * self.at_zero.logits).sum())

    def add_cuts(self) -> float:
        """- mu (cut - bound) of stable activations and windows."""
        constant = 0.0
        for cuts in self.duals.cuts:
            node, index, dual = cuts.node, cuts.index, cuts.dual
            constant -= float((dual * (self.at_zero.cut_values[node.name][index] - cuts.bound)).sum())
            on = self.on(node.source)
            if isinstance(node.op, MaxPool):
                plus, minus = picked_inputs(self.batch, self.network, node.name, index)
                np.add.at(on, (plus, index[-1]), -dual)
                np.add.at(on, (minus, index[-1]), dual)
                continue
            gate = self.batch.gates[node.name]
            np.add.at(on, (index[0], index[-1]), -dual)
            assert isinstance(gate, Gate)
            assert isinstance(node.op, Relu)
            score = node.op.score[index[0]]
            acts = (gate.state[index] == ACTIVE) & (score >= 0)
            np.add.at(self.gradient, score[acts], -(dual * gate.cap[index])[acts])
        return constant

    def add_unstable(self, low: Array, high: Array) -> float:
        """- mu times the inequalities (1) to (7) of unstable activations and windows, and their columns' bounds."""
        constant = 0.0
        for name, dual in self.duals.unstable.items():
            add = self._windows if isinstance(self.network.node(name).op, MaxPool) else self._relus
            constant += add(name, dual, low, high)
        return constant

    def _relus(self, name: str, dual: Mapping[str, Array], low: Array, high: Array) -> float:
        """- mu times what a ReLU's inequalities say is at least 0."""
        unstable, node, gate = self.batch.unstable[name], self.network.node(name), self.batch.gates[name]
        assert isinstance(gate, Gate)
        at = (unstable.activation, unstable.image)
        taken = relu_duals(dual, gate.cap[at], gate.big_m[at], np.multiply, cut=gate.cut)
        assert isinstance(node.op, Relu)
        score = node.op.score[unstable.activation]
        np.add.at(self.on(node.source), at, -taken["y"])
        np.add.at(self.gradient, score[score >= 0], -taken["s"][score >= 0])
        np.add.at(self.gradient, unstable.value, -taken["h"])
        np.add.at(self.gradient, unstable.phase[:, 0], -taken["open"])
        high[unstable.value] = gate.cap[at]
        at_zero = taken["y"] * self.at_zero.read[name][at] + taken[""] + np.where(score >= 0, 0.0, taken["s"])
        return -float(at_zero.sum())

    def _windows(self, name: str, dual: Mapping[str, Array], low: Array, high: Array) -> float:
        """- mu times what a window's inequalities say is at least 0, or 0."""
        unstable, node, gate = self.batch.unstable[name], self.network.node(name), self.batch.gates[name]
        assert isinstance(node.op, MaxPool)
        assert not isinstance(gate, Gate)
        window, place = unstable.members
        activation, image = unstable.activation[window], unstable.image[window]
        member, slack = node.op.windows[activation, place], gate.slack[activation, place, image]
        taken, of_windows = pool_duals(dual, slack, np.multiply)
        np.add.at(self.on(node.source), (member, image), -taken["h"])
        np.add.at(self.gradient, unstable.value[window], -taken["out"])
        np.add.at(self.gradient, unstable.phase[window, place], -taken["pick"] - of_windows["picks"][window])
        low[unstable.value] = -np.inf
        high[unstable.value] = gate.top[unstable.activation, unstable.image]
        h = self.at_zero.read[name][member, image]
        return -float((taken["h"] * h + taken[""]).sum() + of_windows[""].sum())

    def propagated(self) -> Array:
        """The gradient that the collected weights have on all columns."""
        return backward_in_all(self.reduction, self.batch, self.weights)
