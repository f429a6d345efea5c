"""Dual cuts: what probabilities, or residuals, of the images prove of every mask, refitted however.

With x_i logits, three losses l_i, convex, and their conjugates l_i*(a) = sup_x a . x - l_i(x):

    labels      log sum_c exp x_c - x_y                             a = p - [c = y]      l* = sum_c p_c log p_c
    softened    T^2 KL( q || softmax(x / T) ),  q = softmax(o / T)  a = T (p - q)        l* = T^2 (sum_c p_c log p_c
                                                                                              - sum_c q_c log q_c)
    squared     |x - o|^2 / 2,  o the dense logits                  a = x - o            l* = |a|^2 / 2 + a . o

The mask program with refit weight r, D, J, W, z of `expansion`, U_j the change of unit j's outgoing weights (and U_0
that of the layer's constant, with z_i0 = s_0 = 1, which is one term of each sum),

    minimise   mean_i l_i( o_i + D_i (s - m) + sum_j J_i U_j z_ij )  +  r sum_j |U_j|^2 / s_j

is bounded from below, for any p (or a) of each image, by a cut that is linear in the scores (weak duality):

    mean_i [ a_i . (o_i - D_i m) - l_i*(a_i) ]  +  sum_j s_j [ mean_i a_i . D_ij - | mean_i J_i' a_i z_ij' |^2 / (4 r) ]
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, assert_never

import numpy as np
from scipy.special import log_softmax, logsumexp, softmax, xlogy

from formulation.masks.inner_problem.expansion import Expansion
from formulation.network import NO_UNIT, Array, Index

LossName = Literal["labels", "softened", "squared"]


@dataclass(frozen=True, eq=False)
class ConvexLoss:
    """One of the three losses.

    Attributes:
        name: which.
        target: q, or o where the loss is `squared`, [classes, images].
        temperature: T; 1 for `labels`.
    """

    name: LossName
    target: Array
    temperature: float = 1.0

    def values(self, logits: Array) -> Array:
        """l_i of each image, for logits [classes, images]."""
        match self.name:
            case "labels" | "softened":
                y, t = logits / self.temperature, self.temperature
                made: Array = (
                    t
                    * t
                    * (
                        logsumexp(y, axis=0)
                        - (self.target * y).sum(axis=0)
                        + xlogy(self.target, self.target).sum(axis=0)
                    )
                )
            case "squared":
                made = ((logits - self.target) ** 2).sum(axis=0) / 2
            case _:
                assert_never(self.name)
        return made

    def duals(self, logits: Array) -> Array:
        """a, the derivative of each image's loss by its logits, [classes, images]."""
        if self.name == "squared":
            return np.asarray(logits - self.target)
        return np.asarray(self.temperature * (softmax(logits / self.temperature, axis=0) - self.target))

    def conjugates(self, duals: Array) -> Array:
        """l_i*(a_i) of each image, for proper duals."""
        match self.name:
            case "labels" | "softened":
                p = np.clip(duals / self.temperature + self.target, 0.0, None)
                entropy = xlogy(p, p).sum(axis=0) - xlogy(self.target, self.target).sum(axis=0)
                made: Array = self.temperature**2 * entropy
            case "squared":
                made = (duals**2).sum(axis=0) / 2 + (duals * self.target).sum(axis=0)
            case _:
                assert_never(self.name)
        return made

    def proper(self, duals: Array) -> Array:
        """The nearest duals whose probabilities are some: any numbers become a proof."""
        if self.name == "squared":
            return duals
        p = np.clip(duals / self.temperature + self.target, 0.0, None)
        total = p.sum(axis=0)
        p = np.where(total > 0, p / np.where(total > 0, total, 1.0), 1 / len(p))
        made: Array = self.temperature * (p - self.target)
        return made

    def curvature(self, logits: Array) -> Array:
        """The Hessian of each image's loss by its logits, [images, classes, classes]."""
        classes, images = logits.shape
        if self.name == "squared":
            return np.broadcast_to(np.eye(classes), (images, classes, classes))
        p = np.exp(log_softmax(logits / self.temperature, axis=0)).T
        made: Array = p[:, :, None] * np.eye(classes) - p[:, :, None] * p[:, None, :]
        return made


def make_loss(name: LossName, dense: Array, labels: Index, temperature: float) -> ConvexLoss:
    """The loss of a network's images.

    Args:
        name: which.
        dense: logits of the network that the mask is compared with, [classes, images].
        labels: [images]; read by `labels` alone.
        temperature: T, read by `softened` alone.
    """
    match name:
        case "labels":
            return ConvexLoss(name, np.eye(len(dense))[:, labels])
        case "softened":
            return ConvexLoss(name, softmax(dense / temperature, axis=0), temperature)
        case "squared":
            return ConvexLoss(name, dense)
        case _:
            assert_never(name)


@dataclass(frozen=True, eq=False)
class DualCut:
    """constant + slope . s lies below the program's objective at every s in [0, 1], whatever the weights' changes."""

    constant: float
    slope: Array

    def at(self, scores: Array) -> float:
        """Its value."""
        return float(self.constant + self.slope @ scores)


def dual_cut(expansion: Expansion, loss: ConvexLoss, duals: Array, refit_weight: float) -> DualCut:
    """The cut of some duals.

    Args:
        expansion: of the network around the mask so far.
        loss: the convex loss.
        duals: a, [classes, images]; made proper first.
        refit_weight: r > 0; infinite where no weight may change.
    """
    a = loss.proper(duals)
    images = expansion.images
    first = a.ravel() @ expansion.slopes / images
    constant = ((a * expansion.logits).sum() - loss.conjugates(a).sum()) / images - first @ expansion.mask
    slope = first.copy()
    if math.isfinite(refit_weight):
        for reading in expansion.readings:
            squares = ((reading.pulled(a) / images) ** 2).sum(axis=0)
            own = reading.owner != NO_UNIT
            slope -= np.bincount(reading.owner[own], squares[own], expansion.units) / (4 * refit_weight)
            constant -= squares[~own].sum() / (4 * refit_weight)
    return DualCut(float(constant), slope)
