"""Ranges that the constraints imply: every point of the relaxed program lies in them."""

from __future__ import annotations

import numpy as np
import pytest

from formulation.duality.implied_ranges import implied_ranges
from formulation.relaxation.propagation import forward
from formulation.solve.separation import complete
from tests.formulation.cases import SMALL
from tests.formulation.paper_settings import paper_settings


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("gate", ["published", "pattern"])
def test_values_at_the_unpruned_network_lie_in_their_ranges(name: str, gate: str) -> None:
    case = SMALL[name](1)
    reduction = case.reduction(paper_settings(gate=gate, radius=0.0 if gate == "pattern" else 0.02))
    point, _ = complete(reduction, np.ones(reduction.scores))
    for batch in reduction.batches:
        ranges, read = implied_ranges(reduction.network, batch), forward(reduction, batch, point).read
        for node in reduction.network.nodes:
            if node.name in read:
                around = ranges[node.sources[0]]
                assert (around.low <= read[node.name] + 1e-9).all()
                assert (read[node.name] <= around.high + 1e-9).all()


def test_pixels_are_known_to_a_rounding() -> None:
    reduction = SMALL["dense"](1).reduction(paper_settings(radius=0.02))
    (batch, *_) = reduction.batches
    around = implied_ranges(reduction.network, batch)["input"]
    assert (around.low <= batch.pixels).all()
    assert (batch.pixels <= around.high).all()
    np.testing.assert_allclose(around.low, around.high, rtol=1e-14)
