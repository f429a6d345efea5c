"""First-order logits of a batch of images, held as they are: dense products take the place of passes.

    o_i(s) = o_i + J_i (s - 1)

with J_i the derivatives of image i's logits by its units' gates, which the gate `linear` needs and nothing else. Where
the loss is the cross-entropy they may lack what all logits of an image share, which that loss does not see.
`Effects` are what the first units' scores do to the map behind them, of which Jacobians are made.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from formulation.network import Array, Index

AT_ONCE = 2**22  # numbers of a Jacobian that are copied at once


@dataclass(frozen=True, eq=False)
class FirstOrder:
    """Logits at scores 1, [classes, images], and their derivatives by the scores, [images, classes, scores]."""

    logits: Array
    jacobian: Array

    def at(self, scores: Array) -> Array:
        """Logits [classes, images] at scores [scores]."""
        images, classes, units = self.jacobian.shape
        moved = self.jacobian.reshape(images * classes, units) @ (scores - 1)
        made: Array = self.logits + moved.reshape(images, classes).T
        return made

    def summed(self, weights: Array, group: Index) -> Array:
        """Coefficients [groups, scores] of the sums over groups of images of weighted sums of logits, by one product.

        Args:
            weights: of each logit of each image, [classes, images].
            group: the group of each image, numbers from 0 of which none is left out.
        """
        images, classes, units = self.jacobian.shape
        of_groups = np.zeros((int(group.max()) + 1, images, classes))
        of_groups[group, np.arange(images)] = weights.T
        made: Array = of_groups.reshape(len(of_groups), -1) @ self.jacobian.reshape(images * classes, units)
        return made

    def pulled(self, weights: Array, image: Index) -> Array:
        """Coefficients [sums, scores] of weighted sums of logits.

        Args:
            weights: of each logit in each sum, [classes, sums].
            image: the image that each sum is about, [sums].
        """
        images, classes, units = self.jacobian.shape
        if np.array_equal(image, np.arange(images)):
            whole: Array = np.matmul(weights.T[:, None, :], self.jacobian)[:, 0]
            return whole
        made = np.empty((len(image), units))
        step = max(1, AT_ONCE // max(1, classes * units))
        for first in range(0, len(image), step):
            some = slice(first, first + step)
            made[some] = np.matmul(weights.T[some, None, :], self.jacobian[image[some]])[:, 0]
        return made


@dataclass(frozen=True, eq=False)
class Effects:
    """T of an affine map and a batch, [k, rows, images], for the scores `units` [k]."""

    units: Index
    effects: Array

    def add_to(self, on_scores: Array, weights: Array) -> None:
        """Add the coefficients that weights on the map's values [rows, images] have on scores [scores, images]."""
        on_scores[self.units] += np.einsum("kqi,qi->ki", self.effects, weights)
