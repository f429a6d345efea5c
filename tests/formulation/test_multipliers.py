"""The multipliers of a proof on a scoring set's slices: each once, each where it belongs."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from formulation import ScoreSettings
from formulation.multipliers import priced, proper
from formulation.reduction import Reduction
from formulation.solution import Proof
from formulation.solve import solve
from formulation.sparsity import counted
from tests.formulation.cases import conv_pool, dense, max_pooled

CASES = {
    "dense, published": (dense(1, images=5), ScoreSettings(radius=0.1)),
    "pool, pattern": (conv_pool(1, images=5), ScoreSettings(gate="pattern", radius=0)),
    "maximum, published": (max_pooled(1, images=5), ScoreSettings(radius=0.05)),
}


@cache
def solved(name: str, slice_size: int) -> tuple[Reduction, Proof]:
    case, settings = CASES[name]
    reduction = case.reduction(settings, slice_size=slice_size)
    proof = solve(reduction, settings).proof
    assert proof is not None
    return reduction, proof


@pytest.mark.parametrize("name", CASES)
def test_every_multiplier_is_on_one_slice(name: str) -> None:
    reduction, proof = solved(name, slice_size=2)
    slices = list(priced(reduction, proof))
    assert len(slices) == 3
    found = [
        (rows.position, row, image + one.part.first, price)
        for one in slices
        for rows in one.rows
        for row, image, price in zip(
            np.ravel_multi_index(rows.index[:-1], one.part.gates[rows.node.name].lower.shape[:-1]),
            rows.index[-1],
            rows.price,
            strict=True,
        )
    ]
    given = [(*(int(k) for k in row), price) for row, price in zip(proof.rows, proof.prices, strict=True)]
    assert sorted(found) == sorted(given)
    for key, values in proof.undecided.items():
        family, node = key.split("/")
        parts = [one.undecided[node][family] for one in slices if node in one.undecided]
        np.testing.assert_array_equal(np.concatenate(parts), values if family == "one" else np.abs(values))


@pytest.mark.parametrize("case", CASES)
def test_what_nothing_bounds_has_no_price_whatever_a_proof_says(case: str) -> None:
    reduction, proof = solved(case, slice_size=2)
    network, unbounded = reduction.network, 0
    sizes = {name: gate.lower[..., 0].size for name, gate in next(iter(reduction.parts)).gates.items()}
    rows = np.array(
        [
            (position, row, image)
            for position, node in enumerate(network.nodes)
            for row in range(sizes.get(node.name, 0))
            for image in range(reduction.images)
        ]
    )
    for price, end in ((1.0, "lower"), (-1.0, "upper")):
        for one in priced(reduction, replace(proof, rows=rows, prices=np.full(len(rows), price))):
            assert [found.node.name for found in one.rows] == list(sizes)
            for found in one.rows:
                gate = one.part.gates[found.node.name]
                bounds = getattr(gate, end)[found.index]
                bounded = np.isfinite(bounds) & ~gate.undecided[found.index[0], found.index[-1]]
                np.testing.assert_array_equal(found.price, np.where(bounded, price, 0.0))
                np.testing.assert_array_equal(found.bound, np.where(bounded, bounds, 0.0))
                unbounded += int((~bounded).sum())
    assert unbounded


def test_families_that_are_too_short_have_no_price() -> None:
    reduction, proof = solved("dense, published", slice_size=16)
    key = next(key for key, values in proof.undecided.items() if len(values) > 1)
    family, node = key.split("/")
    less = replace(proof, undecided={**proof.undecided, key: proof.undecided[key][1:] + 1.0})
    (one,) = priced(reduction, less)
    assert not one.undecided[node][family].any()


@pytest.mark.parametrize("shares", [[0.0, 0.0, 0.0], [3.0, 1.0, -1.0], [0.2, 0.3, 0.4], [1.0, 1.0, 1.0]])
def test_a_proper_proof_has_probabilities_and_shares_that_sum_to_what_they_must(shares: list[float]) -> None:
    network = dense(1, hidden=(4, 3, 2)).reduction(ScoreSettings(radius=0.1)).network
    assert counted(network, "units") == 2
    p = np.array([[2.0, 0.0], [1.0, -1.0], [1.0, 3.0]])
    made = proper(Proof(p, np.array(shares), np.zeros((0, 3), int), np.zeros(0), {}), network, "units")
    np.testing.assert_allclose(made.probabilities, [[0.5, 0.0], [0.25, 0.0], [0.25, 1.0]])
    assert made.layers.sum() == pytest.approx(2.0, abs=1e-12)
    assert ((made.layers >= 0) & (made.layers <= 1)).all()
