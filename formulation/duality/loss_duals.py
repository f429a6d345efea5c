"""Duals of the losses: for each image an affine function below its loss, by Fenchel's inequality l(o) >= a . o - l*(a).

    cross-entropy    a = p - [c = y], any probabilities p    l*(a) = -H(p),  H(p) = - sum_c p_c log p_c
    squared          any a, of K outputs                     l*(a) = K |a|^2 / 4 + a . z

with y an image's class, z its targets and l(o) = |o - z|^2 / K where the loss is `squared`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import cast

import numpy as np
from scipy.special import entr

from formulation.network import Array, Index, Labels
from naming import ScoreLoss


def slopes(given: Array, labels: Labels, loss: ScoreLoss) -> Array:
    """a of each image, [outputs, images].

    Args:
        given: probabilities p, or a itself where the loss is `squared`, [outputs, images].
        labels: [images], or targets [images, outputs].
        loss: which they are of.
    """
    if loss == "squared":
        return given
    made = given.copy()
    made[cast(Index, labels), np.arange(len(labels))] -= 1.0
    return made


def given_of(made: Array, labels: Labels, loss: ScoreLoss) -> Array:
    """The inverse of `slopes`: what a dual bound stores, with what rounding left below 0 taken for 0.

    Args:
        made: a of each image, [outputs, images]; changed in place.
        labels, loss: as for `slopes`.
    """
    if loss == "squared":
        return made
    made[cast(Index, labels), np.arange(len(labels))] += 1.0
    return np.clip(made, 0.0, None)


def constants(given: Array, labels: Labels, loss: ScoreLoss) -> float:
    """The sum of -l*(a) over the images.

    Args:
        given, labels, loss: as for `slopes`.
    """
    if loss == "squared":
        return -float((len(given) / 4 * given**2 + given * labels.T).sum())
    return float(entr(given).sum())


def exact_constants(given: Array, targets: Array) -> Fraction:
    """`constants` of the loss `squared`, without any rounding.

    Args:
        given: a, [outputs, images].
        targets: z, [images, outputs].
    """
    quarter = Fraction(len(given), 4)
    pairs = zip(given.ravel().tolist(), targets.T.ravel().tolist(), strict=True)
    terms = ((Fraction(a), Fraction(z)) for a, z in pairs)
    return -sum((quarter * a * a + a * z for a, z in terms), Fraction(0))
