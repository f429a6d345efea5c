"""Oracle 6: the reduced program and the design's program written out in full have the same optimum."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from formulation import ScoreSettings, score
from tests.formulation.cases import Case, conv_pool, dense, strided_grouped
from tests.formulation.oracles import Unreduced

CLOSE = 1e-6


def both_optima(case: Case, settings: ScoreSettings) -> tuple[float, float]:
    reduction = case.reduction(settings)
    plain = Unreduced(reduction.network, case.pixels, case.labels.numpy(), settings).minimise()
    assert plain is not None
    certificate = score(case.model, case.images, case.labels, settings).certificate
    assert certificate.status == "optimal"
    assert certificate.bound <= plain + CLOSE
    return certificate.objective, plain


def settings_of(gate: str, *, relax: bool, radius: float, loss_weight: float = 5.0, **more: object) -> ScoreSettings:
    return ScoreSettings(
        gate=gate, relax=relax, radius=radius, loss_weight=loss_weight, gap=1e-7, allow_degenerate=True, **more
    )


@pytest.mark.parametrize("seed", range(1, 5))
@pytest.mark.parametrize("relax", [True, False], ids=["relaxed", "integer"])
@pytest.mark.parametrize(
    ("gate", "radius"), [("published", 0.05), ("published", 0.0), ("pattern", 0.0), ("exact", 0.0), ("exact", 0.02)]
)
def test_reduced_and_unreduced_optima_agree_on_dense_networks(gate: str, radius: float, relax: bool, seed: int) -> None:
    case = dense(seed, inputs=3, hidden=(4, 3), images=2)
    settings = settings_of(gate, relax=relax, radius=radius, loss_weight=10.0 if seed % 2 else 2.0)
    reduced, plain = both_optima(case, settings)
    assert reduced == pytest.approx(plain, abs=CLOSE)


@pytest.mark.parametrize("make", [conv_pool, strided_grouped])
@pytest.mark.parametrize(
    ("gate", "radius", "layer_weight"),
    [("published", 0.02, "kernel"), ("pattern", 0.0, "network"), ("exact", 0.0, "units")],
)
def test_reduced_and_unreduced_relaxations_agree_on_convolutions(
    make: Callable[..., Case], gate: str, radius: float, layer_weight: str
) -> None:
    case = make(1)
    reduced, plain = both_optima(case, settings_of(gate, relax=True, radius=radius, layer_weight=layer_weight))
    assert reduced == pytest.approx(plain, abs=CLOSE)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("relax", [True, False], ids=["relaxed", "integer"])
@pytest.mark.parametrize(("gate", "radius"), [("published", 0.05), ("pattern", 0.0), ("exact", 0.0)])
def test_reduced_and_unreduced_optima_agree_with_integer_scores(
    gate: str, radius: float, relax: bool, seed: int
) -> None:
    case = dense(seed, inputs=3, hidden=(3, 3), images=2)
    reduced, plain = both_optima(case, settings_of(gate, relax=relax, radius=radius, integer_scores=True))
    assert reduced == pytest.approx(plain, abs=CLOSE)


def test_the_instances_are_neither_decided_nor_trivial() -> None:
    """The comparisons above would be hollow without undecided units, or with an optimum at s = 1 everywhere."""
    undecided, moved, tighter = 0, 0, 0
    for seed in range(6):
        case = dense(seed, inputs=3, hidden=(4, 3), images=2)
        relaxed, integer = (
            score(case.model, case.images, case.labels, settings_of("published", relax=relax, radius=0.05))
            for relax in (True, False)
        )
        undecided += relaxed.certificate.undecided > 0
        moved += any((values < 0.99).any() for values in relaxed.scores.values())
        tighter += integer.certificate.objective > relaxed.certificate.objective + 1e-5
    assert undecided >= 2
    assert moved >= 5
    assert tighter >= 1
    assert (
        dense(1, inputs=3, hidden=(4, 3), images=2).reduction(settings_of("exact", relax=False, radius=0.0)).columns > 7
    )
