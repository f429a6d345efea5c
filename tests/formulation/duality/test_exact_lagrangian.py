"""The Lagrangian in enclosures: constants and columns at their worse end, rounded down."""

from __future__ import annotations

import math

import numpy as np
import pytest

from formulation.duality.enclosures import Enclosure
from formulation.duality.exact_lagrangian import ExactLagrangian
from formulation.relaxation.reduction import Reduction
from tests.formulation.cases import dense
from tests.formulation.paper_settings import paper_settings


@pytest.fixture
def reduction() -> Reduction:
    return dense(1).reduction(paper_settings(gate="pattern", radius=0.0))


def test_the_minimum_takes_every_column_at_its_worse_end(reduction: Reduction) -> None:
    whole = ExactLagrangian(reduction)
    whole.add(Enclosure.exactly(np.array([1.0, 0.5])))
    whole.add_gradient(np.array([0, 1, 1]), Enclosure.exactly(np.array([2.0, -3.0, 1.0])))
    assert whole.minimum() < 1.5 - 2.0  # rounded down: strictly below
    assert whole.minimum() == pytest.approx(1.5 - 2.0, abs=1e-12)


@pytest.mark.parametrize("constant", [np.nan, np.inf, -np.inf])
def test_numbers_out_of_range_prove_nothing(reduction: Reduction, constant: float) -> None:
    whole = ExactLagrangian(reduction)
    with np.errstate(invalid="ignore"):
        whole.add(Enclosure.exactly(np.array([constant])))
        assert whole.minimum() == -math.inf
