"""First-order logits of a batch of images, held as they are: dense products take the place of passes.

    o_i(s) = o_i + J_i (s - 1)

with J_i the derivatives of image i's logits by its units' gates, which the gate `linear` needs and nothing else.
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
