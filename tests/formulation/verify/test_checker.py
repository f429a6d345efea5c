"""Oracle 9: a true answer passes the forward pass, and every perturbed one is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from formulation import CheckFailed, Solution, check, score
from tests.formulation.cases import SMALL
from tests.formulation.paper_settings import paper_settings
from tests.formulation.verify.solved import CASE, PUBLISHED, SOLVED, checked


@pytest.mark.parametrize("name", SOLVED)
def test_a_true_answer_passes_and_the_verdict_agrees_with_the_certificate(
    name: str, solutions: dict[str, Solution]
) -> None:
    verdict, certificate = checked(solutions[name]), solutions[name].certificate
    assert certificate.checked
    assert verdict.largest_residual == certificate.largest_residual <= 1e-6
    assert verdict.objective == pytest.approx(certificate.objective, abs=1e-9)
    assert verdict.bound == certificate.bound
    assert verdict.gap == pytest.approx(certificate.gap, abs=1e-9)
    assert verdict.images == len(CASE.images)


@pytest.mark.parametrize("name", sorted(SMALL))
@pytest.mark.parametrize(("gate", "radius"), [("published", 0.02), ("pattern", 0.0), ("exact", 0.01)])
def test_more_images_than_one_slice_pass(name: str, gate: str, radius: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is built batch by batch, the checker passes forward all at once: sums may round differently."""
    monkeypatch.setattr("formulation.relaxation.reduction.BATCH_IMAGES", 5)
    case = SMALL[name](2, images=18)
    settings = paper_settings(gate=gate, radius=radius, gap=0.3, allow_degenerate=True)
    solution = score(case.model, case.images, case.labels, settings)
    assert check(case.model, case.images, case.labels, solution).images == 18


@pytest.mark.parametrize("name", SOLVED)
@pytest.mark.parametrize("by", [1e-4, 0.1])
def test_a_moved_score_is_refused(name: str, by: float, solutions: dict[str, Solution]) -> None:
    """Unless it changes nothing: a unit that emits 0 on every image, of the layer that the objective leaves out."""
    solution = solutions[name]
    refused, harmless = 0, 0
    for layer, values in solution.scores.items():
        for unit in range(len(values)):
            other = values.copy()
            other[unit] += by if other[unit] < 0.5 else -by
            try:
                verdict = checked(replace(solution, scores={**solution.scores, layer: other}))
            except CheckFailed:
                refused += 1
            else:
                assert verdict.objective == pytest.approx(solution.certificate.objective, abs=1e-5)
                harmless += 1
    assert refused > 2 * harmless


@pytest.mark.parametrize("value", [-0.5, 1.5, np.nan, np.inf])
@pytest.mark.parametrize("name", SOLVED)
def test_a_score_out_of_range_is_refused(name: str, value: float, solutions: dict[str, Solution]) -> None:
    for layer, values in solutions[name].scores.items():
        other = values.copy()
        other[-1] = value
        with np.errstate(invalid="ignore"), pytest.raises(CheckFailed):
            checked(replace(solutions[name], scores={**solutions[name].scores, layer: other}))


def test_fractional_scores_are_refused_where_whole_ones_were_demanded(solutions: dict[str, Solution]) -> None:
    solution = solutions["whole scores"]
    layer = next(iter(solution.scores))
    other = solution.scores[layer].copy()
    other[0] = 0.5
    with pytest.raises(CheckFailed, match="integrality of the scores"):
        checked(replace(solution, scores={**solution.scores, layer: other}))


def perturbed(solution: Solution, batch: str, by: Callable[[np.ndarray], np.ndarray]) -> list[Solution]:
    """One solution per unstable value, with that value changed."""
    made = []
    for layer, values in solution.unstable.items():
        for k in range(len(values.value)):
            changed = getattr(values, batch).copy()
            changed[k] = by(changed[k])
            others = {**solution.unstable, layer: replace(values, **{batch: changed})}
            made.append(replace(solution, unstable=others))
    assert made
    return made


@pytest.mark.parametrize("by", [0.01, -0.01, np.nan, np.inf])
@pytest.mark.parametrize("name", ["integer", "exact", "whole scores"])
def test_a_moved_hidden_value_is_refused(name: str, by: float, solutions: dict[str, Solution]) -> None:
    for changed in perturbed(solutions[name], "value", lambda value: value + by)[:6]:
        with np.errstate(invalid="ignore"), pytest.raises(CheckFailed):
            checked(changed)


@pytest.mark.parametrize("by", [1.5, -1.5, np.nan, np.inf])
@pytest.mark.parametrize("name", ["relaxed", "integer", "exact"])
def test_a_moved_open_value_is_refused(name: str, by: float, solutions: dict[str, Solution]) -> None:
    for changed in perturbed(solutions[name], "phase", lambda value: value + by)[:6]:
        with np.errstate(invalid="ignore"), pytest.raises(CheckFailed):
            checked(changed)


@pytest.mark.parametrize("name", ["integer", "exact"])
def test_a_fractional_open_is_refused_in_an_integer_program(name: str, solutions: dict[str, Solution]) -> None:
    for changed in perturbed(solutions[name], "phase", lambda value: 0.5 + 0 * value)[:6]:
        with pytest.raises(CheckFailed):
            checked(changed)


def test_an_open_unit_closed_or_a_closed_one_opened_is_refused(solutions: dict[str, Solution]) -> None:
    found = 0
    values = solutions["integer"].unstable
    for layer in values:
        for k in np.flatnonzero(values[layer].value > 1e-3):
            closed = values[layer].phase.copy()
            closed[k] = 0.0
            others = {**values, layer: replace(values[layer], phase=closed)}
            with pytest.raises(CheckFailed, match=r"h <= open u\+ \(2\)"):
                checked(replace(solutions["integer"], unstable=others))
            found += 1
    assert found


def test_the_checker_uses_no_solver_and_no_reduction() -> None:
    import formulation.verify.checker as checker
    from formulation.verify import residuals

    strangers = {"highspy", "linopy", "solve", "relu_gate", "pool_gate", "open_session"}
    assert not strangers & set(vars(checker))  # it reduces for the proof of the bound alone
    assert not (strangers | {"reduce", "forward", "backward"}) & set(vars(residuals))


def test_float32_images_check_like_their_float64_values() -> None:
    images = CASE.images.float()
    solution = score(CASE.model, images, CASE.labels, PUBLISHED)
    assert check(CASE.model, images.double(), CASE.labels, solution).largest_residual <= 1e-6
    assert isinstance(images, torch.Tensor)


def test_images_checked_slice_by_slice_are_checked_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from formulation.verify import residuals

    solution = score(CASE.model, CASE.images, CASE.labels, PUBLISHED)
    assert solution.unstable
    whole = check(CASE.model, CASE.images, CASE.labels, solution)
    monkeypatch.setattr(residuals, "BATCH", 2)
    assert len(CASE.images) > 2
    sliced = check(CASE.model, CASE.images, CASE.labels, solution)
    assert sliced.objective == pytest.approx(whole.objective, abs=1e-12)
    assert sliced.largest_residual == pytest.approx(whole.largest_residual, abs=1e-12)
