"""Oracles 5 and 6: nothing beats the reported optimum, which is attained; relaxation below bound below incumbent."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from formulation import ScoreSettings, Solution, score
from formulation.network import Array
from formulation.solve.outer_approximation import solve
from formulation.solve.separation import complete
from tests.formulation.cases import (
    SMALL,
    Case,
    batchnorm_after_relu,
    concatenated,
    conv_pool,
    dense,
    max_pooled,
    residual,
    strided_grouped,
)
from tests.formulation.oracles import objective_of
from tests.formulation.paper_settings import paper_settings
from tests.oracles.tangents import Tangents
from tests.oracles.unreduced import write_out

TINY = {
    "one hidden layer": lambda seed: dense(seed, inputs=3, hidden=(7,), images=3),
    "two hidden layers": lambda seed: dense(seed, inputs=3, hidden=(4, 4), images=3),
    "pool": lambda seed: conv_pool(seed, images=1),
    "grouped": lambda seed: strided_grouped(seed, images=1),
    "max-pooled": lambda seed: max_pooled(seed, images=1),
    "residual": lambda seed: residual(seed, images=1),
    "concatenated": lambda seed: concatenated(seed, images=1),
    "norm after relu": lambda seed: batchnorm_after_relu(seed, images=1),
}


def every_mask(units: dict[str, int]) -> list[dict[str, Array]]:
    layers = [list(itertools.product((0.0, 1.0), repeat=count)) for count in units.values()]
    return [dict(zip(units, map(np.array, chosen), strict=True)) for chosen in itertools.product(*layers)]


@pytest.mark.parametrize("loss_weight", [1.0, 10.0])
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("tiny", TINY)
def test_no_mask_beats_the_reported_optimum_and_it_is_attained(tiny: str, seed: int, loss_weight: float) -> None:
    case, solution = TINY[tiny](seed), solved(tiny, seed, loss_weight)
    best = min(objective_of(case, masks, loss_weight) for masks in every_mask(solution_units(solution.scores)))
    assert solution.certificate.status == "optimal"
    assert solution.certificate.objective == pytest.approx(best, abs=1e-6)
    assert objective_of(case, solution.scores, loss_weight) == pytest.approx(best, abs=1e-6)
    assert all(set(np.unique(values)) <= {0.0, 1.0} for values in solution.scores.values())


@cache
def solved(tiny: str, seed: int, loss_weight: float) -> Solution:
    """The optimum over all masks."""
    case = TINY[tiny](seed)
    settings = ScoreSettings(
        loss_weight=loss_weight, gate="exact", relax=False, integer_scores=True, radius=0, gap=1e-7
    )
    return score(case.model, case.images, case.labels, settings)


def solution_units(scores: dict[str, Array]) -> dict[str, int]:
    return {name: len(values) for name, values in scores.items()}


def test_the_enumerated_optima_are_not_all_trivial() -> None:
    removed = []
    for tiny, seed in itertools.product(TINY, (1, 2)):
        scores = np.concatenate(list(solved(tiny, seed, 10.0).scores.values()))
        removed.append(float(1 - scores.mean()))
    assert sum(0 < share < 1 for share in removed) >= 4


@pytest.mark.parametrize("seed", [1, 3, 4])
def test_no_pattern_of_open_phases_beats_the_published_integer_optimum(seed: int) -> None:
    """Every pattern of the unstable phases is fixed in the unreduced program, one linear program each."""
    case = dense(seed, inputs=3, hidden=(4, 3), images=2)
    settings = paper_settings(radius=0.05, relax=False, gap=1e-7)
    reduction = case.reduction(settings)
    program = write_out(reduction.network, case.pixels, case.labels.numpy(), replace(settings, relax=True))
    plain, unstable = Tangents(program), program.unstable()
    assert len(unstable) == reduction.unstable <= 6
    optima = []
    for phases in itertools.product((0.0, 1.0), repeat=len(unstable)):
        for column, phase in zip(unstable, phases, strict=True):
            plain.fix(column, phase)
        optimum = plain.minimise()
        if optimum is not None:
            optima.append(optimum)
    assert optima
    found = score(case.model, case.images, case.labels, settings).certificate.objective
    assert found == pytest.approx(min(optima), abs=1e-6)


@pytest.mark.parametrize("seed", range(1, 4))
@pytest.mark.parametrize(("gate", "radius"), [("published", 0.1), ("exact", 0.0)])
def test_relaxation_below_bound_below_incumbent(gate: str, radius: float, seed: int) -> None:
    case = dense(seed, images=4)
    settings = paper_settings(gate=gate, radius=radius, relax=False, gap=1e-6)
    certificate = score(case.model, case.images, case.labels, settings).certificate
    relaxed = score(
        case.model, case.images, case.labels, replace(settings, relax=True, allow_degenerate=True)
    ).certificate
    assert certificate.unstable > 0
    assert relaxed.bound <= certificate.bound + 1e-9
    assert certificate.bound <= certificate.objective + 1e-9
    assert certificate.relaxation == pytest.approx(relaxed.objective, abs=1e-6)
    assert relaxed.relaxation is None


@pytest.mark.parametrize("name", sorted(SMALL))
@pytest.mark.parametrize(("gate", "radius"), [("published", 0.02), ("pattern", 0.0), ("exact", 0.02)])
def test_keeping_every_unit_is_feasible_and_no_better_than_the_optimum(name: str, gate: str, radius: float) -> None:
    case = SMALL[name](3)
    settings = paper_settings(gate=gate, radius=radius, allow_degenerate=True)
    reduction = case.reduction(settings)
    _, logits = complete(reduction, np.ones(reduction.scores))
    whole = {name: np.ones(units) for name, units in reduction.network.units.items()}
    np.testing.assert_allclose(logits, case.masked_logits(whole), atol=1e-12)
    assert (
        score(case.model, case.images, case.labels, settings).certificate.objective
        <= objective_of(case, whole, 5.0) + 1e-9
    )


@pytest.mark.parametrize(("make", "relax"), [(dense, False), (max_pooled, True)])
@pytest.mark.parametrize("cuts", ["tangent", "lifted"])
def test_the_slices_of_a_scoring_set_do_not_change_the_program(
    make: Callable[..., Case], relax: bool, cuts: str
) -> None:
    case = make(2, images=5)
    settings = paper_settings(radius=0.1, relax=relax, gap=1e-7, cuts=cuts)
    found = [solve(case.reduction(settings, batch_size=size), settings) for size in (1, 2, 16)]
    for other in found[1:]:
        assert other.incumbent.objective == pytest.approx(found[0].incumbent.objective, abs=1e-6)
