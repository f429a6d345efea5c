"""Jacobians that are held give what passes give, and are left out where they would not pay or not fit."""

from __future__ import annotations

import numpy as np
import pytest

from formulation import TimeLimitReached
from formulation.deadline import Deadline
from formulation.relaxation import backward, forward, with_jacobians
from tests.formulation.cases import SMALL, dense
from tests.formulation.paper_settings import paper_settings

LINEAR = paper_settings(gate="linear", radius=0)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_values_and_coefficients_are_those_of_passes(name: str) -> None:
    passes = SMALL[name](5).reduction(LINEAR)
    held, rng = with_jacobians(passes), np.random.default_rng(0)
    point, last = rng.random(passes.columns), passes.network.nodes[-1].name
    for plain, product in zip(passes.batches, held.batches, strict=True):
        assert product.first_order is not None
        np.testing.assert_allclose(
            forward(held, product, point).logits, forward(passes, plain, point).logits, atol=1e-12
        )
        image = rng.integers(plain.images, size=5)
        for chosen in (image, np.arange(plain.images)):
            weights = rng.normal(size=(passes.network.classes, len(chosen)))
            found, expected = (
                backward(which, batch, {last: weights.copy()}, chosen).toarray()
                for which, batch in ((held, product), (passes, plain))
            )
            np.testing.assert_allclose(found, expected, atol=1e-12)


def test_they_are_held_for_linear_alone_and_only_where_they_fit_and_pay() -> None:
    case = dense()
    pattern = case.reduction(paper_settings(gate="pattern", radius=0))
    assert with_jacobians(pattern) is pattern
    linear = case.reduction(LINEAR)
    numbers = linear.network.classes * linear.scores * linear.images
    assert with_jacobians(linear, held_numbers=numbers - 1) is linear
    assert with_jacobians(linear, most_classes=linear.network.classes - 1) is linear
    assert with_jacobians(linear, held_numbers=numbers) is not linear


def test_none_is_begun_behind_the_deadline() -> None:
    with pytest.raises(TimeLimitReached, match="derivatives of image 1"):
        with_jacobians(dense().reduction(LINEAR), deadline=Deadline.after(0.0))
