"""First-order logits: dense products against sums written out."""

from __future__ import annotations

import numpy as np

from formulation.relaxation.first_order import FirstOrder


def test_values_and_weighted_sums_are_those_written_out() -> None:
    rng = np.random.default_rng(0)
    held = FirstOrder(rng.normal(size=(3, 4)), rng.normal(size=(4, 3, 5)))
    scores, image, weights = rng.random(5), np.array([2, 0, 2]), rng.normal(size=(3, 3))
    logits = [[held.logits[c, i] + held.jacobian[i, c] @ (scores - 1) for i in range(4)] for c in range(3)]
    np.testing.assert_allclose(held.at(scores), logits)
    sums = [sum(weights[c, k] * held.jacobian[i, c] for c in range(3)) for k, i in enumerate(image)]
    np.testing.assert_allclose(held.pulled(weights, image), sums)
