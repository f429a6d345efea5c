"""Dual cuts and the inner problem: below the objective everywhere, and met where the duals were made."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formulation.masks.inner_problem.dual_cuts import dual_cut
from formulation.masks.inner_problem.inner_refit import InnerProblem
from tests.formulation.cases import conv_pool, dense
from tests.formulation.masks.planted import problem_of

LOSSES = ("labels", "softened", "squared")
CASES = {"dense": dense(3, hidden=(5, 4), images=9), "conv": conv_pool(4, images=5)}


def objective(problem: InnerProblem, scores: np.ndarray, changes: list[np.ndarray]) -> float:
    """The program's objective, written out: the loss at the moved logits, and the perspective of the changes."""
    expansion = problem.expansion
    logits = expansion.logits_at(scores)
    ridge = 0.0
    for reading, change in zip(expansion.readings, changes, strict=True):
        logits = logits + reading.moved(change)
        ridge += float(((change**2).sum(axis=0) / reading.kept(scores)).sum())
    return float(problem.loss.values(logits).mean()) + problem.refit_weight * ridge


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    case=st.sampled_from(list(CASES)),
    loss=st.sampled_from(LOSSES),
    weight=st.sampled_from([1e-3, 0.1, 1.0, 100.0]),
    size=st.sampled_from([0.0, 0.1, 3.0]),
)
def test_the_cut_of_any_duals_lies_below_the_objective_at_any_scores_and_changes(
    seed: int, case: str, loss: str, weight: float, size: float
) -> None:
    draw = np.random.default_rng(seed)
    expansion = problem_of(CASES[case], loss, weight).expansion
    mask = (draw.random(expansion.units) > 0.3).astype(float)
    problem = problem_of(CASES[case], loss, weight, mask)
    duals = draw.standard_normal(expansion.logits.shape) * draw.choice([0.01, 1.0])
    scores = draw.uniform(1e-3, 1.0, expansion.units)
    changes = [size * draw.standard_normal(reading.weight.shape) for reading in problem.expansion.readings]
    cut = dual_cut(problem.expansion, problem.loss, duals, weight)
    assert cut.at(scores) <= objective(problem, scores, changes) + 1e-9


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weight", [1e-2, 1.0])
@pytest.mark.parametrize("case", CASES)
def test_at_its_own_scores_the_cut_of_the_answers_duals_is_the_optimum(case: str, weight: float, loss: str) -> None:
    problem = problem_of(CASES[case], loss, weight)
    scores = np.random.default_rng(5).uniform(0.1, 1.0, problem.expansion.units)
    answer = problem.solve(scores, 1e-10)
    assert answer.objective == pytest.approx(objective(problem, scores, list(answer.changes)), abs=1e-9)
    cut = dual_cut(problem.expansion, problem.loss, answer.duals, weight)
    assert answer.bound == pytest.approx(cut.at(scores), abs=1e-9)
    assert 0 <= answer.objective - answer.bound <= 1e-8


def test_with_squared_errors_on_the_last_layer_it_is_the_ridge_regression_in_closed_form() -> None:
    case = dense(6, hidden=(7,), images=11)
    problem, weight = problem_of(case, "squared", 0.05), 0.05
    [reading] = problem.expansion.readings
    scores = np.array([1.0, 0, 1, 1, 0, 0.5, 1])
    all_scores = np.append(scores, 1.0)  # the constant's
    kept = all_scores > 0
    z, root = reading.values[kept], np.sqrt(all_scores[kept])
    missing = problem.expansion.dense - problem.expansion.logits_at(scores)
    scaled = z * root[:, None]
    images = z.shape[1]
    v = np.linalg.solve(scaled @ scaled.T / images + 2 * weight * np.eye(kept.sum()), scaled @ missing.T / images).T
    expected = ((missing - v @ scaled) ** 2).sum() / 2 / images + weight * (v**2).sum()
    assert problem.solve(scores, 1e-12).objective == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_large_refit_weight_is_the_linear_program_and_a_small_one_never_worse(loss: str) -> None:
    case = CASES["dense"]
    linear = problem_of(case, loss, math.inf)
    scores = (np.random.default_rng(7).random(linear.expansion.units) > 0.4).astype(float)
    plain = linear.solve(scores, 1e-12)
    large = problem_of(case, loss, 1e9).solve(scores, 1e-12)
    assert large.objective == pytest.approx(plain.objective, rel=1e-6)
    found = [problem_of(case, loss, weight).solve(scores, 1e-10).objective for weight in (1.0, 0.1, 0.01)]
    assert plain.objective >= found[0] >= found[1] >= found[2]
    cuts = [dual_cut(linear.expansion, linear.loss, plain.duals, weight).slope for weight in (1e12, math.inf)]
    np.testing.assert_allclose(cuts[0], cuts[1], atol=1e-9)


def test_duals_that_are_no_probabilities_are_made_some() -> None:
    problem = problem_of(CASES["dense"], "softened", 1.0)
    wild = 50 * np.random.default_rng(8).standard_normal(problem.expansion.logits.shape)
    made = problem.loss.proper(wild)
    p = made / problem.loss.temperature + problem.loss.target
    assert p.min() >= 0
    np.testing.assert_allclose(p.sum(axis=0), 1.0)
    np.testing.assert_allclose(problem.loss.proper(made), made)


def test_the_duals_and_conjugates_are_those_of_the_loss() -> None:
    for loss in LOSSES:
        made = problem_of(CASES["dense"], loss, 1.0).loss
        x = np.random.default_rng(9).standard_normal(made.target.shape)
        a = made.duals(x)
        np.testing.assert_allclose((a * x).sum(axis=0) - made.conjugates(a), made.values(x), atol=1e-10)
        for c in range(len(x)):
            moved = x.copy()
            moved[c] += 1e-6
            np.testing.assert_allclose((made.values(moved) - made.values(x)) / 1e-6, a[c], atol=1e-5)
