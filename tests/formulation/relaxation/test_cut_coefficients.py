"""Coefficients of what nodes read and of their rows against differences of values, sparse and dense alike."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from formulation.relaxation import cut_coefficients
from formulation.relaxation.cut_coefficients import coefficients_of_cuts, read_coefficients
from formulation.relaxation.gates import Gate
from formulation.relaxation.propagation import forward
from formulation.relaxation.reduction import Reduction
from tests.formulation.cases import SMALL
from tests.formulation.oracles import repeatable
from tests.formulation.paper_settings import paper_settings

SETTINGS = {
    "published": paper_settings(radius=0.1),
    "pattern": paper_settings(gate="pattern", radius=0),
    "exact": paper_settings(gate="exact", relax=False, radius=0.02),
}
every_case = pytest.mark.parametrize("case", sorted(SMALL))
every_gate = pytest.mark.parametrize("gate", sorted(SETTINGS))


# Affine maps that agree in a few random directions agree in all.
few = settings(repeatable, max_examples=8)


@cache
def reduction_of(case: str, gate: str) -> Reduction:
    return SMALL[case](1).reduction(SETTINGS[gate], batch_size=2)


@every_case
@every_gate
@few
@given(draw=st.integers(0, 10_000))
def test_coefficients_of_what_a_node_reads_and_of_its_rows_are_differences_of_values(case, gate, draw):
    reduction, rng = reduction_of(case, gate), np.random.default_rng(draw)
    p, d = rng.normal(0.5, 1, (2, reduction.columns))
    for batch in reduction.batches:
        after, before = forward(reduction, batch, p + d), forward(reduction, batch, p)
        for name, decisions in batch.gates.items():
            source = reduction.network.node(name).source
            image = rng.integers(0, batch.images, 4)
            weights = rng.normal(size=(4, reduction.network.size(source))) * rng.integers(0, 2, (4, 1))
            moved = (after.read[name] - before.read[name])[:, image].T
            found = read_coefficients(reduction, batch, name, csr_array(weights), image) @ d
            np.testing.assert_allclose(found, (weights * moved).sum(axis=1), atol=1e-9)
            decided = ~decisions.unstable
            there = decided if isinstance(decisions, Gate) else np.isfinite(decisions.lower) & decided[:, None]
            index = np.nonzero(there)
            if len(index[0]):
                found = coefficients_of_cuts(reduction, batch, name, index) @ d
                np.testing.assert_allclose(found, (after.cut_values[name] - before.cut_values[name])[index], atol=1e-9)


@every_case
@every_gate
def test_sparse_and_dense_passes_in_blocks_of_any_size_agree(
    case: str, gate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reduction, rng = reduction_of(case, gate), np.random.default_rng(1)
    batch = next(iter(reduction.batches))
    for name in batch.gates:
        size = reduction.network.size(reduction.network.node(name).source)
        image, weights = rng.integers(0, batch.images, 5), csr_array(rng.normal(size=(5, size)))
        found = []
        for sparse, numbers in ((0.3, 2**23), (2.0, 2**23), (-1.0, 2**23), (-1.0, 1)):
            monkeypatch.setattr(cut_coefficients, "SPARSE", sparse)
            monkeypatch.setattr(cut_coefficients, "CUT_NUMBERS", numbers)
            found.append(read_coefficients(reduction, batch, name, weights, image).toarray())
        for other in found[1:]:
            np.testing.assert_allclose(other, found[0], atol=1e-12)
