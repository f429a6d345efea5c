"""A lower bound that anyone can compute again: multipliers on the constraints, and what they leave to minimise.

By convexity every probability vector p gives, for logits o of an image with label y,

    log sum_c exp o_c - o_y  >=  sum_c p_c o_c + H(p) - o_y,      H(p) = - sum_c p_c log p_c

and by duality every nu in [0, 1]^n with sum m gives  sum of the m largest t_k >= sum_k nu_k t_k. Multipliers mu of the
right sign on constraints that hold, a_r x >= b_r, take away only what is at least 0. So, for every feasible point x,

    objective >= L(x) = loss_weight mean_i [p_i . o_i(x) + H(p_i) - o_i,y_i(x)]
                        + sum_k nu_k t_k(s) - sum_r mu_r (a_r x - b_r)

where L is affine in the scores and the undecided columns: its minimum over their bounds is a sum over columns. The
multipliers come from a solver's linear program (the weights that its multipliers put on an image's planes mix the
planes' softmax vectors into p_i); that the bound they prove is one, is plain arithmetic in float64.
The gradient of L by a score is that score's reduced cost. The output of an undecided max-pool window may have no bound;
the multipliers then cancel on it, and what a solver's tolerance leaves of them, up to NEGLECTED, is taken as 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import entr

from formulation.coefficients import picked_inputs
from formulation.gates import OPEN, Gate
from formulation.multipliers import POOL_FAMILIES, RELU_FAMILIES, PricedSlice, priced, proper
from formulation.network import Array, MaxPool, Relu
from formulation.reduction import Reduction
from formulation.rows import NO_GATE, Duals, Rows
from formulation.solution import Proof
from formulation.sparsity import layer_weight
from formulation.sweeps import Trace, backward, forward

NEGLECTED = 1e-7


@dataclass(frozen=True, eq=False)
class Lagrangian:
    """L of a proof: its value where every column is 0, its gradient [columns], and its minimum over their bounds."""

    constant: float
    gradient: Array
    bound: float


def from_duals(reduction: Reduction, rows: Rows, duals: Duals) -> Proof:
    """The proof in a linear program's multipliers; `rows` are those that the program was given, in order."""
    network, images = reduction.network, reduction.images
    held = duals.rows[: len(rows)]
    pulls = np.zeros(network.classes * images)
    pulls[: rows.on_logits.shape[1]] = np.maximum(held, 0.0) @ rows.on_logits
    p = pulls.reshape(network.classes, images) * (images / reduction.settings.loss_weight)
    p[reduction.labels, np.arange(images)] += 1.0
    gated = (rows.source[:, 0] != NO_GATE) & (held != 0)
    layers = duals.named["sparsity"]
    families = {
        f"{family}/{node.name}": np.asarray(duals.named[f"{family}_{node.name}"])
        for node in network.nodes
        for family in (*RELU_FAMILIES, *POOL_FAMILIES)
        if f"{family}_{node.name}" in duals.named
    }
    return Proof(np.clip(p, 0.0, None), np.abs(layers), rows.source[gated], held[gated], families)


def lagrangian(reduction: Reduction, proof: Proof) -> Lagrangian:
    """L of a proof and its minimum: a lower bound on the objective of every feasible point.

    The bound holds whatever the multipliers: signs are put right, and what nothing bounds makes it minus infinity.
    """
    network, settings = reduction.network, reduction.settings
    proof = proper(proof, network, reduction.settings.layer_weight)
    weight = settings.loss_weight / reduction.images
    constant = weight * float(entr(proof.probabilities).sum())
    gradient = np.zeros(reduction.columns)
    for layer, share in zip(network.layers, proof.layers, strict=True):
        size = layer_weight(network, layer, settings.layer_weight)
        gradient[network.score_slices[layer.name]] += share / size
        constant -= share * 2 * layer.units / size
    low, high = np.zeros(reduction.columns), np.ones(reduction.columns)
    for multipliers in priced(reduction, proof):
        piece = _Piece(reduction, multipliers, gradient)
        constant += piece.add_loss(proof, weight) + piece.add_rows() + piece.add_undecided(low, high)
        gradient += piece.swept()
    end = np.where(gradient > 0, low, high)
    # the solver's multipliers cancel on a column without bounds but for its tolerance, which is taken as 0
    gradient[~np.isfinite(end) & (np.abs(gradient) <= NEGLECTED)] = 0.0
    end[gradient == 0] = 0.0
    return Lagrangian(constant, gradient, constant + float(gradient @ end))


class _Piece:
    """What one slice of the scoring set adds to L: weights on its values, then one sweep backwards."""

    def __init__(self, reduction: Reduction, multipliers: PricedSlice, gradient: Array) -> None:
        self.reduction, self.multipliers, self.part = reduction, multipliers, multipliers.part
        self.network = reduction.network
        self.gradient = gradient
        self.at_zero: Trace = forward(reduction, self.part, np.zeros(reduction.columns))
        self.weights: dict[str, Array] = {}

    def on(self, value: str) -> Array:
        """The weights on a value, [activations, images], to be added to."""
        return self.weights.setdefault(value, np.zeros((self.network.size(value), self.part.images)))

    def add_loss(self, proof: Proof, weight: float) -> float:
        pulls = weight * proof.probabilities[:, self.part.where]
        pulls[self.part.labels, np.arange(self.part.images)] -= weight
        self.on(self.network.nodes[-1].name)[...] += pulls
        return float((pulls * self.at_zero.logits).sum())

    def add_rows(self) -> float:
        """- mu (row - bound) of decided activations and windows."""
        constant = 0.0
        for rows in self.multipliers.rows:
            node, index, price = rows.node, rows.index, rows.price
            constant -= float((price * (self.at_zero.rows[node.name][index] - rows.bound)).sum())
            on = self.on(node.source)
            if isinstance(node.op, MaxPool):
                plus, minus = picked_inputs(self.part, self.network, node.name, index)
                np.add.at(on, (plus, index[-1]), -price)
                np.add.at(on, (minus, index[-1]), price)
                continue
            gate = self.part.gates[node.name]
            np.add.at(on, (index[0], index[-1]), -price)
            assert isinstance(gate, Gate)
            assert isinstance(node.op, Relu)
            score = node.op.score[index[0]]
            acts = (gate.state[index] == OPEN) & (score >= 0)
            np.add.at(self.gradient, score[acts], -(price * gate.cap[index])[acts])
        return constant

    def add_undecided(self, low: Array, high: Array) -> float:
        """- mu times the inequalities (1) to (7) of undecided activations and windows, and their columns' bounds."""
        constant = 0.0
        for name, price in self.multipliers.undecided.items():
            add = self._windows if isinstance(self.network.node(name).op, MaxPool) else self._relus
            constant += add(name, price, low, high)
        return constant

    def _relus(self, name: str, price: Mapping[str, Array], low: Array, high: Array) -> float:
        """g >= 0 with g = open u - h, h - (y - (1 - s) u), (y - (1 - s) u) - (1 - open) M - h, s u - h."""
        waiting, node, gate = self.part.waiting[name], self.network.node(name), self.part.gates[name]
        assert isinstance(gate, Gate)
        at = (waiting.activation, waiting.image)
        u, m, y = gate.cap[at], gate.big_m[at], self.at_zero.read[name][at]
        a, b, c, d = (price[family] for family in RELU_FAMILIES)
        d = d if gate.cut else np.zeros_like(d)
        assert isinstance(node.op, Relu)
        score = node.op.score[waiting.activation]
        np.add.at(self.on(node.source), at, b - c)
        on_score = (b - c - d) * u
        np.add.at(self.gradient, score[score >= 0], on_score[score >= 0])
        np.add.at(self.gradient, waiting.value, a - b + c + d)
        np.add.at(self.gradient, waiting.phase[:, 0], -a * u - c * m)
        high[waiting.value] = u
        return float(((b - c) * (y - u) + c * m + np.where(score >= 0, 0.0, on_score)).sum())

    def _windows(self, name: str, price: Mapping[str, Array], low: Array, high: Array) -> float:
        """g >= 0 with g = out - h_j, h_j + (1 - pick_j) slack_j - out; and sum_j pick_j - 1 = 0."""
        waiting, node, gate = self.part.waiting[name], self.network.node(name), self.part.gates[name]
        assert isinstance(node.op, MaxPool)
        assert not isinstance(gate, Gate)
        window, place = np.nonzero(waiting.phase >= 0)
        activation, image = waiting.activation[window], waiting.image[window]
        member, slack = node.op.windows[activation, place], gate.slack[activation, place, image]
        a, b, e = (price[family] for family in POOL_FAMILIES)
        np.add.at(self.on(node.source), (member, image), a - b)
        np.add.at(self.gradient, waiting.value[window], b - a)
        np.add.at(self.gradient, waiting.phase[window, place], b * slack - e[window])
        low[waiting.value] = -np.inf
        high[waiting.value] = gate.top[waiting.activation, waiting.image]
        h = self.at_zero.read[name][member, image]
        return float(((a - b) * h - b * slack).sum() + e.sum())

    def swept(self) -> Array:
        """The gradient that the collected weights have on all columns."""
        each = np.arange(self.part.images)
        swept = backward(self.reduction, self.part, self.weights, each)
        return np.asarray(swept.sum(axis=0)).ravel()
