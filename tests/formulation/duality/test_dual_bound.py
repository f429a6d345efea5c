"""The bound that duals prove: valid whatever they are, tight where a solver gave them, refused where altered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from formulation import CheckFailed, ScoreSettings, check, score
from formulation.duality.dual_bound import lagrangian
from formulation.relaxation.inequalities import RELU_FAMILIES
from formulation.relaxation.reduction import Reduction
from formulation.solution import DualBound, Solution
from formulation.solve.outer_approximation import solve
from formulation.solve.separation import complete
from tests.formulation.cases import Case, conv_pool, dense, max_pooled, residual
from tests.formulation.paper_settings import paper_settings

CASES: dict[str, tuple[Case, ScoreSettings]] = {
    "dense, published": (dense(1, images=5), paper_settings(radius=0.1, gap=1e-6)),
    "dense, exact": (dense(2, images=2), paper_settings(gate="exact", radius=0, gap=1e-6, allow_degenerate=True)),
    "pool, pattern": (conv_pool(1), paper_settings(gate="pattern", radius=0, gap=1e-6)),
    "maximum, published": (max_pooled(1), paper_settings(radius=0.05, gap=1e-6)),
    "maximum, exact": (max_pooled(2), paper_settings(gate="exact", radius=0, gap=1e-6, allow_degenerate=True)),
    "residual, published": (residual(1), paper_settings(radius=0.05, gap=1e-6)),
    "lifted": (dense(3, images=4), paper_settings(radius=0.05, gap=1e-6, cuts="lifted")),
}


def drawn(reduction: Reduction, seed: int) -> DualBound:
    """Duals that no solver gave."""
    rng = np.random.default_rng(seed)
    network = reduction.network
    rows = []
    for batch in reduction.batches:
        for name, gate in batch.gates.items():
            for _ in range(3):
                size = int(np.prod(gate.lower.shape[:-1]))
                position = [node.name for node in network.nodes].index(name)
                rows.append((position, int(rng.integers(size)), batch.first + int(rng.integers(batch.images))))
    families = {
        f"{family}/{name}": rng.normal(size=len(batch.unstable[name].value))
        for batch in reduction.batches
        for name in batch.unstable
        for family in RELU_FAMILIES
    }
    p = rng.random((network.classes, reduction.images))
    return DualBound(p, rng.random(len(network.layers)), np.array(rows), rng.normal(size=len(rows)) / 10, families)


@pytest.mark.parametrize("name", CASES)
def test_what_a_solvers_duals_prove_closes_the_gap(name: str) -> None:
    case, settings = CASES[name]
    reduction = case.reduction(settings)
    found = solve(reduction, settings)
    assert found.dual_bound is not None
    assert found.status == "optimal"
    bound = lagrangian(reduction, found.dual_bound).bound
    assert bound == pytest.approx(found.bound, abs=1e-9)
    assert found.incumbent.objective - 1.1e-6 * max(1, abs(found.bound)) <= bound <= found.incumbent.objective + 1e-9


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", CASES)
def test_no_duals_prove_more_than_the_truth(name: str, seed: int) -> None:
    case, settings = CASES[name]
    reduction = case.reduction(settings)
    optimum = solve(reduction, settings).incumbent.objective
    assert lagrangian(reduction, drawn(reduction, seed)).bound <= optimum + 1e-9


@pytest.mark.parametrize("name", CASES)
def test_the_lagrangian_lies_below_the_objective_at_every_feasible_point(name: str) -> None:
    case, settings = CASES[name]
    reduction = case.reduction(settings)
    found = solve(reduction, settings)
    assert found.lagrangian is not None
    made = found.lagrangian
    ones, _ = complete(reduction, np.ones(reduction.scores))
    for point in (ones, found.incumbent.point, (ones + found.incumbent.point) / 2):
        assert made.constant + made.gradient @ point >= made.bound - 1e-7
    assert made.constant + made.gradient @ found.incumbent.point <= found.incumbent.objective + 1e-7


def test_reduced_costs_vanish_where_a_score_is_free_to_move() -> None:
    case, settings = CASES["dense, published"]
    solution = score(case.model, case.images, case.labels, replace(settings, gap=1e-8))
    scores, costs = (np.concatenate(list(v.values())) for v in (solution.scores, solution.reduced_costs))
    inside = (scores > 1e-3) & (scores < 1 - 1e-3)
    assert inside.any()
    np.testing.assert_allclose(costs[inside], 0, atol=1e-5)
    assert (costs[scores == 1] <= 1e-6).all()
    assert (costs[scores == 0] >= -1e-6).all()


def altered(solution: Solution, **changes: object) -> Solution:
    assert solution.dual_bound is not None
    return replace(solution, dual_bound=replace(solution.dual_bound, **changes))


@pytest.mark.parametrize("name", ["probabilities", "layers", "cut_duals"])
def test_altered_duals_are_refused(name: str) -> None:
    case, settings = CASES["pool, pattern" if name == "cut_duals" else "dense, published"]
    solution = score(case.model, case.images, case.labels, settings)
    assert solution.dual_bound is not None
    values = getattr(solution.dual_bound, name)
    assert len(values)
    moved = np.roll(values, 1, axis=0) if name == "probabilities" else np.zeros_like(values)
    if name == "layers":
        moved = values * 0 + np.eye(len(values))[0]
    with pytest.raises(CheckFailed, match="proved bound"):
        check(case.model, case.images, case.labels, altered(solution, **{name: moved}))


def test_a_bound_above_its_proof_is_refused() -> None:
    case, settings = CASES["pool, pattern"]
    solution = score(case.model, case.images, case.labels, replace(settings, gap=1e-2, break_ties=False))
    certificate = solution.certificate
    claimed = replace(certificate, bound=certificate.objective, gap=0.0)
    assert certificate.objective > certificate.bound + 1e-5
    with pytest.raises(CheckFailed, match="more than its duals prove"):
        check(case.model, case.images, case.labels, replace(solution, certificate=claimed))
    with pytest.raises(CheckFailed, match="no duals"):
        check(case.model, case.images, case.labels, replace(solution, dual_bound=None))
    with pytest.raises(CheckFailed, match="more than its duals prove"):
        check(
            case.model,
            case.images,
            case.labels,
            replace(solution, certificate=replace(certificate, proved_bound=None)),
        )


def test_a_proof_survives_a_folder(tmp_path) -> None:
    case, settings = CASES["dense, published"]
    solution = score(case.model, case.images, case.labels, settings)
    read = Solution.load(solution.save(tmp_path))
    check(case.model, case.images, case.labels, read)
    assert read.certificate.proved_bound == solution.certificate.proved_bound
    for name, values in solution.reduced_costs.items():
        np.testing.assert_array_equal(read.reduced_costs[name], values)
