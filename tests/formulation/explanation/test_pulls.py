"""Pulls on a score add up, and a new solve without them confirms them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from formulation import InvalidSolution, ScoreSettings, explain, score
from formulation.explanation.pulls import all_pulls
from formulation.relaxation.loss import cross_entropy
from formulation.relaxation.propagation import forward
from formulation.solve.outer_approximation import solve
from tests.formulation.cases import Case, conv_pool, dense, max_pooled, residual
from tests.formulation.paper_settings import paper_settings

SETTINGS = {
    "published": paper_settings(radius=0.05, gap=1e-7),
    "pattern": paper_settings(gate="pattern", radius=0, gap=1e-7),
    "exact": paper_settings(gate="exact", radius=0, gap=1e-7, allow_degenerate=True),
}
ALONE = [(6, (6, 5), 3), (4, (8,), 8), (3, (10,), 8)]  # images, hidden units, loss weight
CASES = {"dense": dense(1, images=5), "pool": conv_pool(1), "maximum": max_pooled(1), "residual": residual(1)}


@pytest.mark.parametrize("gate", SETTINGS)
@pytest.mark.parametrize("name", CASES)
def test_the_sparsity_cost_less_pulls_is_the_reduced_cost(name: str, gate: str) -> None:
    reduction = CASES[name].reduction(SETTINGS[gate])
    found = solve(reduction, SETTINGS[gate])
    assert found.dual_bound is not None
    assert found.lagrangian is not None
    pulls = all_pulls(reduction, found.dual_bound, found.lagrangian)
    total = pulls.images.sum(axis=0) + np.asarray(pulls.cuts.sum(axis=0)).ravel()
    np.testing.assert_allclose(pulls.sparsity_cost - total, pulls.reduced_cost, atol=1e-9)
    # where all is unstable an image pulls at the activations' own columns, and their inequalities at the scores
    assert max(np.abs(pulls.images).max(), np.abs(pulls.cuts).toarray().max(initial=0.0)) > 1e-3


def test_each_unit_names_its_strongest_pulls_first() -> None:
    case = dense(1, images=5)
    solution = score(case.model, case.images, case.labels, SETTINGS["published"])
    table = explain(case.model, case.images, case.labels, solution, most=2)
    assert {(p.layer, p.unit) for p in table} <= {
        (layer, unit) for layer, values in solution.scores.items() for unit in np.flatnonzero(values > 0)
    }
    for unit in {(p.layer, p.unit) for p in table}:
        for kind in ("image", "cut"):
            pulls = [p.pull for p in table if (p.layer, p.unit) == unit and p.kind == kind]
            assert len(pulls) <= 2
            assert pulls == sorted(pulls, reverse=True)
            assert all(pull > 0 for pull in pulls)
    assert {p.kind for p in table} == {"image", "cut"}


def without(case: Case, image: int) -> Case:
    kept = [i for i in range(len(case.images)) if i != image]
    return replace(case, images=case.images[kept], labels=case.labels[kept])


def test_taking_away_the_image_it_names_lowers_the_score() -> None:
    """For units between 0 and 1, whose pulls balance their sparsity cost; the other images keep their weight.

    Other units may take over, so not every score must fall; but nearly all do, and on average far.
    """
    change = []
    for (images, hidden, loss_weight), seed in itertools.product(
        [(6, (6, 5), 3), (4, (8,), 8), (3, (10,), 8)], range(8)
    ):
        case = dense(seed, images=images, hidden=hidden)
        settings = ScoreSettings(gate="pattern", radius=0, gap=1e-8, loss_weight=loss_weight)
        solution = score(case.model, case.images, case.labels, settings)
        for pull in explain(case.model, case.images, case.labels, solution, most=1):
            if pull.kind == "image" and pull.score < 1 - 1e-3 and pull.pull > pull.sparsity_cost:
                rest = without(case, pull.image)
                less = replace(settings, loss_weight=settings.loss_weight * len(rest.images) / len(case.images))
                again = score(rest.model, rest.images, rest.labels, less)
                change.append(again.scores[pull.layer][pull.unit] - pull.score)
    assert len(change) >= 5
    assert np.mean(np.array(change) < -1e-3) >= 0.8
    assert np.mean(change) < -0.1


def test_taking_away_the_cut_it_names_lowers_the_score() -> None:
    change = []
    for seed in range(8):
        case, settings = dense(seed, images=3), ScoreSettings(gate="pattern", radius=0, gap=1e-8, loss_weight=3)
        solution = score(case.model, case.images, case.labels, settings)
        for pull in explain(case.model, case.images, case.labels, solution, most=1):
            if pull.kind == "cut" and 1e-3 < pull.score < 1 - 1e-3 and pull.pull > pull.sparsity_cost:
                found = solve_without_cut(case, settings, pull.node, pull.activation, pull.image)
                change.append(found[pull.layer][pull.unit] - pull.score)
    assert len(change) >= 4
    assert np.mean(np.array(change) < -1e-3) >= 0.75
    assert np.mean(change) < -0.1


def test_an_images_pull_is_the_slope_of_its_loss() -> None:
    case, settings = dense(1, images=4), ScoreSettings(gate="pattern", radius=0, gap=1e-9, loss_weight=8)
    reduction = case.reduction(settings)
    found = solve(reduction, settings)
    assert found.dual_bound is not None
    assert found.lagrangian is not None
    pulls = all_pulls(reduction, found.dual_bound, found.lagrangian).images
    (batch,), point, step = reduction.batches, found.incumbent.point, 1e-6

    def losses(at: np.ndarray) -> np.ndarray:
        return settings.loss_weight / 4 * cross_entropy(forward(reduction, batch, at).logits, reduction.labels)

    for column in range(reduction.scores):
        moved = step * (np.arange(reduction.scores) == column)
        slope = (losses(point + moved) - losses(point - moved)) / (2 * step)
        np.testing.assert_allclose(pulls[:, column], -slope, atol=2e-3)


def solve_without_cut(case: Case, settings: ScoreSettings, node: str, activation: int, image: int) -> dict:
    reduction = case.reduction(settings)
    for batch in reduction.batches:
        if batch.first <= image < batch.first + batch.images:
            gate = batch.gates[node]
            gate.lower[activation, image - batch.first] = -np.inf
            gate.upper[activation, image - batch.first] = np.inf
    outcome = solve(reduction, settings)
    return reduction.network.unstack(outcome.incumbent.point[: reduction.scores])


def test_a_solution_without_duals_cannot_be_explained() -> None:
    case = dense(1)
    solution = score(case.model, case.images, case.labels, SETTINGS["pattern"])
    with pytest.raises(InvalidSolution, match="score again"):
        explain(case.model, case.images, case.labels, replace(solution, dual_bound=None))
    with pytest.raises(InvalidSolution, match="other images"):
        explain(case.model, case.images.flip(0), case.labels, solution)
