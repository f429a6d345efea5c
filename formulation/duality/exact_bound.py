"""Dual bound with outward rounding: what duals prove of the program whose coefficients are these float64 numbers.

The program is taken as given: weights and biases of the lowered network, pixels, bounds u+, M and the limits of cuts
are float64 numbers, read as the real numbers that they are; phases and picks are those that follow from them.
Its Lagrangian L (see `dual_bound`) is computed in one pass backwards, `exact_lagrangian`.

Probabilities are the stored ones divided by their exact sum, shares are rational numbers that sum to m exactly, and
the entropy comes from correctly rounded logarithms of 50 decimal digits. So the returned bound lies below the true
minimum of L, whatever the float64 sums of `dual_bound` say.

A max-pool's output without bounds of its own has those that its inputs and its inequalities imply, so what duals leave
on it after they cancel costs its share of the bound and is not taken for 0.
"""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import cast

import numpy as np

from formulation.duality.duals import dualised
from formulation.duality.enclosures import TINY, Enclosure
from formulation.duality.exact_lagrangian import ExactLagrangian
from formulation.duality.loss_duals import exact_constants
from formulation.network import Array, Index
from formulation.relaxation import Reduction, counted, layer_weight
from formulation.solution import DualBound

DIGITS = 50
LEFT = Fraction(1, 10**30)  # more than the roundings of an image's entropy at 50 digits


def exact_bound(reduction: Reduction, dual_bound: DualBound) -> float:
    """A float64 number below the objective of every feasible point of the relaxed program, or minus infinity.

        min over s, columns of L <= optimum    (see `dual_bound`), every rounding counted against the left side

    Args:
        reduction: the scoring set in score space.
        dual_bound: its duals; any are valid, better ones prove more.

    Returns:
        In units of the objective.
    """
    network, settings = reduction.network, reduction.settings
    weight = Enclosure.of(Fraction(settings.loss_weight) / reduction.images)
    slopes, constant = _slopes_and_constant(reduction, dual_bound.probabilities)
    total = ExactLagrangian(reduction)
    total.add(weight * constant)
    shares = _summing_to(dual_bound.layers, counted(network, settings.layer_weight))
    for layer, share in zip(network.layers, shares, strict=True):
        each = share / layer_weight(network, layer, settings.layer_weight)
        total.add(Enclosure.of(-2 * layer.units * each))
        where = np.arange(reduction.scores)[network.score_slices[layer.name]]
        one = Enclosure.of(each)
        many = Enclosure(np.full(len(where), one.middle), np.full(len(where), one.radius))
        total.add_gradient(where, many)
    with np.errstate(over="ignore", invalid="ignore"):  # numbers out of range prove nothing, which the end sees
        for duals in dualised(reduction, dual_bound):
            total.add_batch(duals, weight, slopes)
        return total.minimum()


def exact_trivial_bound(reduction: Reduction) -> float:
    """The layer terms of all-zero scores, which no objective lies below, rounded down."""
    network, how = reduction.network, reduction.settings.layer_weight
    terms = sorted((Fraction(-2 * k.units, layer_weight(network, k, how)) for k in network.layers), reverse=True)
    return float(Enclosure.of(sum(terms[: counted(network, how)], Fraction(0))).low)


def _slopes_and_constant(reduction: Reduction, given: Array) -> tuple[Enclosure, Enclosure]:
    """a of each image [outputs, images], and the sum of -l*(a), a scalar; see `loss_duals`."""
    labels = reduction.labels
    if reduction.settings.loss == "squared":
        return Enclosure.exactly(given), Enclosure.of(exact_constants(given, labels.astype(float)))
    q, entropy = _probabilities(given)
    one_hot = np.zeros(q.middle.shape)
    one_hot[cast(Index, labels), np.arange(reduction.images)] = 1.0
    return q - Enclosure.exactly(one_hot), entropy


def _probabilities(given: Array) -> tuple[Enclosure, Enclosure]:
    """q = p / sum p per image, [classes, images], and the sum of the images' entropies, a scalar."""
    p = np.clip(given, 0.0, None)
    sums = np.array([math.fsum(column) for column in p.T])
    q = p / sums
    total = Fraction(0)
    with localcontext() as context:
        context.prec = DIGITS
        for column in p.T:
            positive = [Decimal(float(value)) for value in column if value > 0]
            mass = sum(positive, Decimal(0))
            total += Fraction(mass.ln() - sum((value * value.ln() for value in positive), Decimal(0)) / mass)
    around = Enclosure.of(total)
    slack = float(LEFT * p.shape[1])
    return (
        Enclosure(q, 4 * 2.0**-53 * q + TINY),  # a sum, a quotient and the radius itself
        Enclosure(around.middle, np.asarray(around.radius + slack)),
    )


def _summing_to(given: Array, total: int) -> list[Fraction]:
    """Shares in [0, 1] that sum to `total` exactly, near the given ones."""
    shares = [min(max(Fraction(float(value)), Fraction(0)), Fraction(1)) for value in given]
    for _ in range(len(shares) + 1):
        missing = total - sum(shares, Fraction(0))
        free = [k for k, share in enumerate(shares) if (share < 1 if missing > 0 else share > 0)]
        if missing == 0 or not free:
            break
        for k in free:
            shares[k] = min(max(shares[k] + missing / len(free), Fraction(0)), Fraction(1))
    return shares
