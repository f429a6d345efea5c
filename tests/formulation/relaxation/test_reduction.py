"""Oracle 6: the reduced program and the design's program written out in full have the same optimum."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formulation import ScoreSettings, score
from tests.formulation.cases import (
    SMALL,
    Case,
    batchnorm_after_relu,
    concatenated,
    conv1d_series,
    conv_pool,
    dense,
    drawn,
    leaky,
    max_pooled,
    moved,
    residual,
    strided_grouped,
    tabular,
)
from tests.formulation.oracles import repeatable
from tests.oracles.tangents import Tangents
from tests.oracles.unreduced import write_out

CLOSE = 1e-6
SEMANTICS = [
    ("published", 0.05),
    ("published", 0.0),
    ("pattern", 0.0),
    ("linear", 0.0),
    ("exact", 0.0),
    ("exact", 0.02),
]
every_semantics = pytest.mark.parametrize(("gate", "radius"), SEMANTICS)
phases = pytest.mark.parametrize("relax", [True, False], ids=["relaxed", "integer"])


def settings_of(gate: str, *, relax: bool, radius: float, loss_weight: float = 5.0, **more: object) -> ScoreSettings:
    return ScoreSettings(
        gate=gate, relax=relax, radius=radius, loss_weight=loss_weight, gap=1e-7, allow_degenerate=True, **more
    )


def plain_optimum(case: Case, settings: ScoreSettings) -> float:
    network = case.reduction(settings).network
    optimum = Tangents(write_out(network, case.pixels, case.labels.numpy(), settings)).minimise()
    assert optimum is not None
    return optimum


def reduced_optimum(case: Case, settings: ScoreSettings) -> float:
    certificate = score(case.model, case.images, case.labels, settings).certificate
    assert certificate.status == "optimal"
    assert certificate.bound <= certificate.objective + CLOSE
    return certificate.objective


@pytest.mark.parametrize("seed", range(1, 5))
@phases
@every_semantics
def test_reduced_and_unreduced_optima_agree_on_dense_networks(gate: str, radius: float, relax: bool, seed: int) -> None:
    case = dense(seed, inputs=3, hidden=(4, 3), images=2)
    settings = settings_of(gate, relax=relax, radius=radius, loss_weight=10.0 if seed % 2 else 2.0)
    assert reduced_optimum(case, settings) == pytest.approx(plain_optimum(case, settings), abs=CLOSE)


@pytest.mark.parametrize("case", sorted(SMALL))
@every_semantics
def test_reduced_and_unreduced_relaxations_agree_on_every_operation(gate: str, radius: float, case: str) -> None:
    made = SMALL[case](1)
    settings = settings_of(gate, relax=True, radius=radius, loss_weight=10.0)
    assert reduced_optimum(made, settings) == pytest.approx(plain_optimum(made, settings), abs=CLOSE)


@settings(repeatable, max_examples=25)
@given(seed=st.integers(0, 10_000), semantics=st.sampled_from(SEMANTICS), loss_weight=st.sampled_from([3.0, 20.0]))
def test_reduced_and_unreduced_relaxations_agree_on_drawn_networks(seed, semantics, loss_weight):
    case = drawn(seed)
    settings = settings_of(semantics[0], relax=True, radius=semantics[1], loss_weight=loss_weight)
    assert reduced_optimum(case, settings) == pytest.approx(plain_optimum(case, settings), abs=CLOSE)


@settings(repeatable, max_examples=12)
@given(seed=st.integers(0, 10_000), semantics=st.sampled_from([("published", 0.05), ("exact", 0.0)]))
def test_reduced_and_unreduced_integer_programs_agree_on_drawn_networks(seed, semantics):
    case = drawn(seed, images=1)
    settings = settings_of(semantics[0], relax=False, radius=semantics[1], loss_weight=10.0)
    assert reduced_optimum(case, settings) == pytest.approx(plain_optimum(case, settings), abs=CLOSE)


@pytest.mark.parametrize(
    "make", [max_pooled, conv1d_series, batchnorm_after_relu, residual, concatenated, leaky, moved]
)
def test_reduced_and_unreduced_integer_programs_agree_with_unstable_windows_sums_and_shifts(
    make: Callable[..., Case],
) -> None:
    case = make(1)
    settings = settings_of("published", relax=False, radius=0.05, loss_weight=10.0)
    assert reduced_optimum(case, settings) == pytest.approx(plain_optimum(case, settings), abs=CLOSE)


@pytest.mark.parametrize("make", [conv_pool, strided_grouped])
@pytest.mark.parametrize(
    ("gate", "radius", "layer_weight"),
    [
        ("published", 0.02, "kernel"),
        ("pattern", 0.0, "network"),
        ("linear", 0.0, "total"),
        ("pattern", 0.0, "total"),
        ("exact", 0.0, "kernel"),
    ],
)
def test_reduced_and_unreduced_relaxations_agree_in_every_layer_weight(
    make: Callable[..., Case], gate: str, radius: float, layer_weight: str
) -> None:
    case, settings = make(1), settings_of(gate, relax=True, radius=radius, layer_weight=layer_weight)
    assert reduced_optimum(case, settings) == pytest.approx(plain_optimum(case, settings), abs=CLOSE)


@pytest.mark.parametrize("seed", range(2))
@phases
@pytest.mark.parametrize(("gate", "radius"), [("published", 0.05), ("pattern", 0.0), ("linear", 0.0), ("exact", 0.0)])
def test_reduced_and_unreduced_optima_agree_with_integer_scores(
    gate: str, radius: float, relax: bool, seed: int
) -> None:
    case = dense(seed, inputs=3, hidden=(3, 3), images=2)
    settings = settings_of(gate, relax=relax, radius=radius, integer_scores=True)
    assert reduced_optimum(case, settings) == pytest.approx(plain_optimum(case, settings), abs=CLOSE)


@pytest.mark.parametrize("make", [tabular, max_pooled])
def test_pixels_and_affine_maps_as_columns_change_no_optimum(make: Callable[..., Case]) -> None:
    case = make(2, images=1)
    settings = settings_of("published", relax=True, radius=0.05, loss_weight=10.0)
    network, labels = case.reduction(settings).network, case.labels.numpy()
    written = write_out(network, case.pixels, labels, settings, free_inputs=True, equations=True)
    assert len(written.equations.constant) >= case.pixels.size
    assert Tangents(written).minimise() == pytest.approx(plain_optimum(case, settings), abs=CLOSE)


def test_an_infeasible_unreduced_program_has_no_optimum() -> None:
    case = dense(hidden=(8, 6))
    settings = settings_of("published", relax=False, radius=0.02)
    program = write_out(case.reduction(settings).network, case.pixels, case.labels.numpy(), settings)
    plain = Tangents(program)
    for columns in program.scores.values():
        for column in columns:
            plain.fix(column, 0.0)
    assert plain.minimise() is None


# What is decided ---------------------------------------------------------------------------------------------------


def test_the_instances_are_neither_stable_nor_trivial() -> None:
    """The comparisons above would be hollow without unstable units, or with an optimum at s = 1 everywhere."""
    unstable, moved, tighter = 0, 0, 0
    for seed in range(6):
        case = dense(seed, inputs=3, hidden=(4, 3), images=2)
        relaxed, integer = (
            score(case.model, case.images, case.labels, settings_of("published", relax=relax, radius=0.05))
            for relax in (True, False)
        )
        unstable += relaxed.certificate.unstable > 0
        moved += any((values < 0.99).any() for values in relaxed.scores.values())
        tighter += integer.certificate.objective > relaxed.certificate.objective + 1e-5
    assert unstable >= 2
    assert moved >= 5
    assert tighter >= 1
    assert (
        dense(1, inputs=3, hidden=(4, 3), images=2).reduction(settings_of("exact", relax=False, radius=0.0)).columns > 7
    )


@pytest.mark.parametrize("make", [max_pooled, conv1d_series])
@pytest.mark.parametrize(("gate", "radius"), [("published", 0.05), ("exact", 0.02)])
def test_the_pooled_instances_have_stable_and_unstable_windows(
    make: Callable[..., Case], gate: str, radius: float
) -> None:
    reduction = make(1).reduction(settings_of(gate, relax=True, radius=radius))
    pools = [gate for batch in reduction.batches for gate in batch.gates.values() if hasattr(gate, "pick")]
    unstable = sum(int(pool.unstable.sum()) for pool in pools)
    assert 0 < unstable < sum(pool.pick.size for pool in pools)


@pytest.mark.parametrize("case", sorted(SMALL))
def test_nothing_is_unstable_in_pattern(case: str) -> None:
    reduction = SMALL[case](1).reduction(settings_of("pattern", relax=True, radius=0.0))
    assert (reduction.unstable, reduction.columns) == (0, reduction.scores)
