"""Supports: the program on a few weighted images against the whole program, by solving it again and by descent."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from formulation import (
    InvalidSetting,
    InvalidSolution,
    ScoreSettings,
    Solution,
    SolverFailed,
    Support,
    TimeLimitReached,
    find_support,
    score,
)
from formulation.explanation import supports
from formulation.relaxation import Reduction, cross_entropy, sparsity
from tests.formulation.cases import Case, dense, logits_at

SETTINGS = ScoreSettings(gate="linear", radius=0.0, loss_weight=2.0, gap=1e-6)
CASE = dense(3, inputs=6, hidden=(8, 5), images=40)
UNITS = 13


def solved(case: Case, asked: ScoreSettings = SETTINGS) -> Solution:
    return score(case.model, case.images, case.labels, asked)


def supported(case: Case, solution: Solution, **more: float) -> Support:
    return find_support(case.model, case.images, case.labels, solution, **more)


class Weighted:
    """The program's objective on weighted images, from logits alone."""

    def __init__(self, case: Case, asked: ScoreSettings, found: Support) -> None:
        self.reduction, self.asked, self.labels = case.reduction(asked), asked, case.labels.numpy()
        self.weights = np.zeros(len(self.labels))
        self.weights[found.images] = found.weights

    def at(self, scores: np.ndarray) -> float:
        losses = cross_entropy(logits_at(self.reduction, scores), self.labels)
        kept = sparsity(self.reduction.network, scores, self.asked.layer_weight)
        return self.asked.loss_weight * float(self.weights @ losses) + kept

    def descended(self, start: np.ndarray) -> float:
        found = minimize(self.at, start, method="L-BFGS-B", bounds=[(0.0, 1.0)] * len(start), options={"maxiter": 30})
        return float(found.fun)


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10**6), tolerance=st.sampled_from([1e-1, 1e-2, 1e-3]), weight=st.sampled_from([0.5, 2.0, 8.0])
)
def test_on_the_support_alone_no_scores_are_better_and_the_objective_is_that_of_all_images(
    seed: int, tolerance: float, weight: float
) -> None:
    case, asked = dense(seed, hidden=(4, 3), images=20), replace(SETTINGS, loss_weight=weight)
    solution = solved(case, asked)
    found = supported(case, solution, tolerance=tolerance)
    assert found.gap <= tolerance * (1 + 1e-6)
    assert found.objective == pytest.approx(solution.certificate.objective, abs=1e-6)
    assert len(found.images) <= 4 + 3 + 3
    assert np.array_equal(case.labels.numpy()[found.images], found.labels)
    assert sum(found.per_class().values()) == len(found.images) == len(found.weights)
    assert ((found.masses >= 0) & (found.masses <= 1)).all()
    program, draw = Weighted(case, asked, found), np.random.default_rng(seed)
    stacked = program.reduction.network.stack(solution.scores)
    assert program.at(stacked) == pytest.approx(found.objective, abs=1e-9)
    for start in (stacked, draw.random(len(stacked))):
        assert program.at(start) >= found.bound - 1e-9
        assert program.descended(start) >= found.bound - 1e-9


def test_solving_again_on_the_support_alone_gives_the_same_optimum() -> None:
    solution = solved(CASE)
    found = supported(CASE, solution, tolerance=1e-4)
    assert len(found.images) < 20
    # a weight is a number of copies, in hundredths of what an image counts for among forty
    copies = np.round(found.weights * 40 * 100).astype(int)
    again = np.repeat(found.images, copies)
    asked = replace(SETTINGS, loss_weight=SETTINGS.loss_weight * len(again) / 4000)
    few = score(CASE.model, CASE.images[again], CASE.labels[again], asked)
    assert few.certificate.objective == pytest.approx(solution.certificate.objective, abs=2e-2)


def test_a_wider_tolerance_and_more_rounds_need_no_more_images() -> None:
    solution = solved(CASE)
    near, far = (supported(CASE, solution, tolerance=each) for each in (1e-4, 0.2))
    once = supported(CASE, solution, tolerance=1e-4, rounds=1)
    assert len(far.images) < len(near.images) <= len(once.images) <= UNITS + 3


def test_images_that_no_scores_make_a_loss_of_are_in_no_support() -> None:
    last = CASE.model[-1]
    with torch.no_grad():
        kept = last.bias.clone()
        last.bias[2] += 1e3  # the third class wins whatever the scores
        case = replace(CASE, labels=torch.where(torch.arange(40) < 35, torch.tensor(2), torch.tensor(1)))
        found = supported(case, solved(case))
        last.bias.copy_(kept)
    assert set(found.images) <= set(range(35, 40))
    assert found.per_class() == {1: len(found.images)}


def test_images_may_come_from_a_loader() -> None:
    batches = [(CASE.images[:25], CASE.labels[:25]), (CASE.images[25:], CASE.labels[25:])]
    solution = score(CASE.model, batches, None, SETTINGS)
    assert np.array_equal(find_support(CASE.model, batches, None, solution).images, supported(CASE, solution).images)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tolerance": 0.0}, "tolerance=0.0 is out of range"),
        ({"tolerance": True}, "tolerance=True is out of range"),
        ({"tolerance": 1e-6}, "tolerance=1e-06 is below what the solution's own duals leave open"),
        ({"rounds": 0}, "rounds=0 is out of range"),
    ],
)
def test_what_is_out_of_range_is_one_line(change: dict[str, float], said: str) -> None:
    with pytest.raises(InvalidSetting, match=said):
        supported(CASE, solved(CASE, replace(SETTINGS, gap=0.3)), **change)


def test_without_time_for_the_first_program_it_is_the_time_that_is_named() -> None:
    solution = solved(CASE)
    hurried = replace(solution.certificate, settings={**solution.certificate.settings, "time_limit": 1e-6})
    with pytest.raises(TimeLimitReached, match="time limit of 1e-06 s"):
        supported(CASE, replace(solution, certificate=hurried))


def test_without_time_for_a_later_program_the_answer_before_it_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    solution, limits = solved(CASE), iter([SETTINGS.time_limit, 1e-6])

    def hurried(reduction: Reduction, *others: Any) -> Any:
        return own(replace(reduction, settings=replace(reduction.settings, time_limit=next(limits))), *others)

    once, own = supported(CASE, solution, rounds=1), supports.solve_weights
    monkeypatch.setattr(supports, "solve_weights", hurried)
    found = supported(CASE, solution)
    assert next(limits, None) is None
    assert np.array_equal(found.images, once.images)
    assert found.gap == once.gap


@pytest.mark.parametrize("factor", [0.5, 1.01])
def test_weights_that_do_not_keep_the_program_are_refused(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    solution, own = solved(CASE), supports.solve_weights

    def altered(*given: Any) -> Any:
        weights, layers = own(*given)
        return weights * factor, layers

    monkeypatch.setattr(supports, "solve_weights", altered)
    with pytest.raises(SolverFailed, match=r"gap of .* objective"):
        supported(CASE, solution, tolerance=0.5)


def test_weights_of_the_same_objective_and_a_wider_gap_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    solution, own = solved(CASE), supports.solve_weights

    def altered(reduction: Reduction, cuts: Any, *others: Any) -> Any:
        weights, layers = own(reduction, cuts, *others)
        one = np.zeros_like(weights)
        one[0] = (weights @ cuts.losses) / cuts.losses[0]
        return one, layers

    monkeypatch.setattr(supports, "solve_weights", altered)
    with pytest.raises(SolverFailed, match=r"gap of .* tolerance"):
        supported(CASE, solution)


@pytest.mark.parametrize("change", [{"tolerance": np.float32(1e-3)}, {"rounds": np.int64(1)}])
def test_numbers_of_numpy_are_numbers(change: dict[str, Any]) -> None:
    assert supported(CASE, solved(CASE), **change).gap <= 1e-3 * (1 + 1e-6)


def test_the_program_is_imported_before_a_solver_s_clock_starts() -> None:
    """In a process that has imported nothing yet."""
    asked = "import sys, formulation\ntry: formulation.find_support(None, None, None, None)\n"
    asked += "except formulation.InvalidSolution: print('linopy' in sys.modules, 'dask.array' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["True", "True"]


def test_another_gate_integer_scores_no_duals_and_other_images_are_refused() -> None:
    few = replace(CASE, images=CASE.images[:6], labels=CASE.labels[:6])
    for change in ({"gate": "pattern"}, {"integer_scores": True}):
        with pytest.raises(InvalidSolution, match="supports are of gate='linear' with scores in"):
            supported(few, solved(few, replace(SETTINGS, **change)))
    solution = solved(few)
    with pytest.raises(InvalidSolution, match="no duals"):
        supported(few, replace(solution, dual_bound=None))
    with pytest.raises(InvalidSolution, match="other images"):
        supported(replace(CASE, images=CASE.images[6:12], labels=CASE.labels[6:12]), solution)
