"""The duals of a dual bound on a scoring set's slices: each once, each where it belongs."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from formulation.duality.duals import dualised, proper
from formulation.relaxation.reduction import Reduction
from formulation.relaxation.sparsity import counted
from formulation.solution import DualBound
from formulation.solve.outer_approximation import solve
from tests.formulation.cases import conv_pool, dense, max_pooled
from tests.formulation.paper_settings import paper_settings

CASES = {
    "dense, published": (dense(1, images=5), paper_settings(radius=0.1)),
    "pool, pattern": (conv_pool(1, images=5), paper_settings(gate="pattern", radius=0)),
    "maximum, published": (max_pooled(1, images=5), paper_settings(radius=0.05)),
}


@cache
def solved(name: str, batch_size: int) -> tuple[Reduction, DualBound]:
    case, settings = CASES[name]
    reduction = case.reduction(settings, batch_size=batch_size)
    dual_bound = solve(reduction, settings).dual_bound
    assert dual_bound is not None
    return reduction, dual_bound


@pytest.mark.parametrize("name", CASES)
def test_every_dual_is_in_one_batch(name: str) -> None:
    reduction, dual_bound = solved(name, batch_size=2)
    slices = list(dualised(reduction, dual_bound))
    assert len(slices) == 3
    found = [
        (rows.position, row, image + one.batch.first, price)
        for one in slices
        for rows in one.cuts
        for row, image, price in zip(
            np.ravel_multi_index(rows.index[:-1], one.batch.gates[rows.node.name].lower.shape[:-1]),
            rows.index[-1],
            rows.dual,
            strict=True,
        )
    ]
    given = [(*(int(k) for k in row), price) for row, price in zip(dual_bound.cuts, dual_bound.cut_duals, strict=True)]
    assert sorted(found) == sorted(given)
    for key, values in dual_bound.unstable.items():
        family, node = key.split("/")
        batches = [one.unstable[node][family] for one in slices if node in one.unstable]
        np.testing.assert_array_equal(np.concatenate(batches), values if family == "one" else np.abs(values))


@pytest.mark.parametrize("case", CASES)
def test_what_nothing_bounds_has_no_price_whatever_a_proof_says(case: str) -> None:
    reduction, dual_bound = solved(case, batch_size=2)
    network, unbounded = reduction.network, 0
    sizes = {name: gate.lower[..., 0].size for name, gate in next(iter(reduction.batches)).gates.items()}
    rows = np.array(
        [
            (position, row, image)
            for position, node in enumerate(network.nodes)
            for row in range(sizes.get(node.name, 0))
            for image in range(reduction.images)
        ]
    )
    for price, end in ((1.0, "lower"), (-1.0, "upper")):
        for one in dualised(reduction, replace(dual_bound, cuts=rows, cut_duals=np.full(len(rows), price))):
            assert [found.node.name for found in one.cuts] == list(sizes)
            for found in one.cuts:
                gate = one.batch.gates[found.node.name]
                bounds = getattr(gate, end)[found.index]
                bounded = np.isfinite(bounds) & ~gate.unstable[found.index[0], found.index[-1]]
                np.testing.assert_array_equal(found.dual, np.where(bounded, price, 0.0))
                np.testing.assert_array_equal(found.bound, np.where(bounded, bounds, 0.0))
                unbounded += int((~bounded).sum())
    assert unbounded


def test_families_that_are_too_short_have_no_price() -> None:
    reduction, dual_bound = solved("dense, published", batch_size=16)
    key = next(key for key, values in dual_bound.unstable.items() if len(values) > 1)
    family, node = key.split("/")
    less = replace(dual_bound, unstable={**dual_bound.unstable, key: dual_bound.unstable[key][1:] + 1.0})
    (one,) = dualised(reduction, less)
    assert not one.unstable[node][family].any()


@pytest.mark.parametrize("shares", [[0.0, 0.0, 0.0], [3.0, 1.0, -1.0], [0.2, 0.3, 0.4], [1.0, 1.0, 1.0]])
def test_a_proper_proof_has_probabilities_and_shares_that_sum_to_what_they_must(shares: list[float]) -> None:
    network = dense(1, hidden=(4, 3, 2)).reduction(paper_settings(radius=0.1)).network
    assert counted(network, "units") == 2
    p = np.array([[2.0, 0.0], [1.0, -1.0], [1.0, 3.0]])
    made = proper(DualBound(p, np.array(shares), np.zeros((0, 3), int), np.zeros(0), {}), network, "units")
    np.testing.assert_allclose(made.probabilities, [[0.5, 0.0], [0.25, 0.0], [0.25, 1.0]])
    assert made.layers.sum() == pytest.approx(2.0, abs=1e-12)
    assert ((made.layers >= 0) & (made.layers <= 1)).all()
