"""Forward and backward: what torch computes, coefficients against differences, and slices that change nothing."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formulation.network import INPUT
from formulation.relaxation.gates import ACTIVE, Gate
from formulation.relaxation.propagation import backward, forward, nominal_gate_inputs
from formulation.relaxation.reduction import Reduction
from formulation.solve.outer_approximation import solve
from formulation.solve.separation import Separation, complete
from tests.formulation.cases import SMALL, drawn, random_masks
from tests.formulation.oracles import repeatable
from tests.formulation.paper_settings import paper_settings

SETTINGS = {
    "published": paper_settings(radius=0.1),
    "pattern": paper_settings(gate="pattern", radius=0),
    "exact": paper_settings(gate="exact", relax=False, radius=0.02),
}
every_case = pytest.mark.parametrize("case", sorted(SMALL))
every_gate = pytest.mark.parametrize("gate", sorted(SETTINGS))
draws = st.integers(0, 10_000)
# Affine maps that agree in a few random directions agree in all.
few = settings(repeatable, max_examples=8)


@cache
def reduction_of(case: str, gate: str, seed: int = 1, **more: int) -> Reduction:
    return SMALL[case](seed).reduction(SETTINGS[gate], **more)


@every_case
@every_gate
def test_with_every_unit_kept_the_logits_are_torchs(gate: str, case: str) -> None:
    made = SMALL[case](2)
    reduction = made.reduction(SETTINGS[gate], batch_size=1)
    point, logits = complete(reduction, np.ones(reduction.scores))
    whole = {name: np.ones(units) for name, units in reduction.network.units.items()}
    np.testing.assert_allclose(logits, made.masked_logits(whole), atol=1e-12)
    for batch in reduction.batches:  # the point says the same without being followed
        np.testing.assert_allclose(forward(reduction, batch, point).logits, logits[:, batch.where], atol=1e-12)


@every_case
def test_exact_followed_at_any_mask_gives_the_masked_torch_networks_logits(case: str) -> None:
    made = SMALL[case](3)
    reduction = made.reduction(SETTINGS["exact"], batch_size=1)
    rng = np.random.default_rng(3)
    for keep in np.linspace(0.1, 0.9, 20):
        masks = random_masks(reduction.network.units, rng, keep)
        point, logits = complete(reduction, reduction.network.stack(masks))
        np.testing.assert_allclose(logits, made.masked_logits(masks), atol=1e-12)
        np.testing.assert_allclose(logits, reduction.network.evaluate(made.pixels, masks), atol=1e-12)
        assert Separation(reduction).inspect(point, shares=()).violation <= 1e-8


@every_case
@every_gate
@few
@given(draw=draws)
def test_coefficients_of_logits_are_differences_of_values(case, gate, draw):
    """Forms are affine: weights . (o(p + d) - o(p)) = coefficients . d for any step d."""
    reduction, rng = reduction_of(case, gate, batch_size=1), np.random.default_rng(draw)
    p, d = rng.normal(0.5, 1, (2, reduction.columns))
    last = reduction.network.nodes[-1].name
    for batch in reduction.batches:
        weights, image = rng.normal(size=(reduction.network.classes, 3)), np.zeros(3, dtype=int)
        moved = forward(reduction, batch, p + d).logits - forward(reduction, batch, p).logits
        found = backward(reduction, batch, {last: weights.copy()}, image) @ d
        np.testing.assert_allclose(found, (weights * moved[:, image]).sum(axis=0), atol=1e-9)


@repeatable
@given(seed=draws, gate=st.sampled_from(sorted(SETTINGS)))
def test_coefficients_are_differences_on_drawn_networks(seed, gate):
    reduction, rng = drawn(seed).reduction(SETTINGS[gate]), np.random.default_rng(seed)
    p, d = rng.normal(0.5, 1, (2, reduction.columns))
    (batch,) = reduction.batches
    weights, image = rng.normal(size=(3, 4)), rng.integers(0, batch.images, 4)
    moved = forward(reduction, batch, p + d).logits - forward(reduction, batch, p).logits
    found = backward(reduction, batch, {reduction.network.nodes[-1].name: weights.copy()}, image) @ d
    np.testing.assert_allclose(found, (weights * moved[:, image]).sum(axis=0), atol=1e-9)


@every_case
@every_gate
def test_the_unpruned_networks_rows_are_those_at_scores_of_1(gate: str, case: str) -> None:
    reduction = reduction_of(case, gate)
    point, _ = complete(reduction, np.ones(reduction.scores))
    for batch in reduction.batches:
        trace = forward(reduction, batch, point)
        for name, decisions in batch.gates.items():
            nominal = nominal_gate_inputs(batch, reduction.network, name)
            if isinstance(decisions, Gate):
                nominal = np.where(decisions.state == ACTIVE, nominal, trace.read[name])
            np.testing.assert_allclose(trace.cut_values[name], nominal, atol=1e-12)


@every_gate
@pytest.mark.parametrize("case", ["dense", "max-pooled", "residual"])
def test_slices_made_again_in_every_pass_are_the_slices_that_were_kept(case: str, gate: str) -> None:
    made = SMALL[case](1, images=5)
    kept = made.reduction(SETTINGS[gate], batch_size=2)
    streamed = made.reduction(SETTINGS[gate], batch_size=2, kept_numbers=0)
    assert next(iter(kept.batches)) is next(iter(kept.batches))
    assert next(iter(streamed.batches)) is not next(iter(streamed.batches))
    assert (kept.columns, kept.starts, kept.unstable) == (streamed.columns, streamed.starts, streamed.unstable)
    point = np.random.default_rng(0).random(kept.columns)
    for one, other in zip(kept.batches, streamed.batches, strict=True):
        np.testing.assert_array_equal(forward(kept, one, point).logits, forward(streamed, other, point).logits)
        assert one.where == other.where
        for name, unstable in one.unstable.items():
            np.testing.assert_array_equal(unstable.value, other.unstable[name].value)
            np.testing.assert_array_equal(unstable.phase, other.unstable[name].phase)
    settings = replace(SETTINGS[gate], relax=True, allow_degenerate=True)
    assert solve(kept, settings).incumbent.objective == solve(streamed, settings).incumbent.objective


@every_gate
@pytest.mark.parametrize("case", ["dense", "max-pooled", "residual"])
def test_every_column_belongs_to_one_thing(case: str, gate: str) -> None:
    reduction = SMALL[case](1, images=5).reduction(SETTINGS[gate], batch_size=2)
    own = [np.arange(reduction.scores)]
    for batch in reduction.batches:
        for unstable in batch.unstable.values():
            own += [unstable.value, unstable.phase[unstable.phase >= 0]]
    np.testing.assert_array_equal(np.sort(np.concatenate(own)), np.arange(reduction.columns))


def test_nothing_flows_back_into_the_pixels() -> None:
    reduction = reduction_of("dense", "pattern")
    (batch,) = reduction.batches
    first = next(node for node in reduction.network.nodes if node.sources == (INPUT,))
    made = backward(reduction, batch, {first.name: np.ones((first.size, 1))}, np.zeros(1, dtype=int))
    assert made.shape == (1, reduction.columns)
    assert made.nnz == 0
