"""Rows are added only when violated: which ones, how many, and how far a point may go."""

from __future__ import annotations

import numpy as np
import pytest

from formulation import ScoreSettings
from formulation.gates import UNDECIDED
from formulation.reduction import Reduction
from formulation.separation import TOLERANCE, Separation
from tests.formulation.cases import Case, conv_pool, dense

CASES: list[tuple[Case, ScoreSettings]] = [
    (dense(1, images=5), ScoreSettings(radius=0.05)),
    (conv_pool(1), ScoreSettings(gate="pattern", radius=0)),
]


def made(case: Case, settings: ScoreSettings) -> tuple[Reduction, np.ndarray, Separation]:
    reduction = case.reduction(settings, slice_size=2)
    ones = reduction.complete(np.ones(reduction.scores))
    return reduction, ones, Separation(reduction, ones)


def worst_by_hand(reduction: Reduction, point: np.ndarray) -> float:
    worst = 0.0
    for part in reduction.parts:
        for layer in part.gated:
            value = layer.forms.at(point)
            decided = layer.gate.state != UNDECIDED
            for excess in (layer.gate.lower - value, value - layer.gate.upper):
                worst = max(worst, float(np.max(excess[decided], initial=0.0)))
    return worst


@pytest.mark.parametrize(("case", "settings"), CASES)
def test_the_unpruned_network_breaks_no_row(case: Case, settings: ScoreSettings) -> None:
    _, ones, separation = made(case, settings)
    assert separation.largest_violation(ones) <= 1e-12
    assert len(separation.violated(ones, 100)) == 0
    assert separation.step_inside(ones) == 1.0


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("case", "settings"), CASES)
def test_a_step_inside_breaks_no_row_and_the_next_one_does(case: Case, settings: ScoreSettings, seed: int) -> None:
    reduction, ones, separation = made(case, settings)
    point = np.random.default_rng(seed).random(reduction.columns)
    assert separation.largest_violation(point) == pytest.approx(worst_by_hand(reduction, point), abs=1e-12)
    step = separation.step_inside(point)
    assert worst_by_hand(reduction, ones + step * (point - ones)) <= 2 * TOLERANCE
    if step < 0.99:
        assert worst_by_hand(reduction, ones + (step + 0.01) * (point - ones)) > TOLERANCE


@pytest.mark.parametrize(("case", "settings"), CASES)
def test_every_row_is_given_once_the_most_violated_first(case: Case, settings: ScoreSettings) -> None:
    reduction, _, separation = made(case, settings)
    point = np.zeros(reduction.columns)
    first = separation.violated(point, 2)
    rest = separation.violated(point, 10_000)
    assert 2 <= len(first) < len(first) + len(rest)

    def broken(rows):
        value = rows.matrix @ point
        return np.maximum(rows.lower - value, value - rows.upper)

    assert broken(first).min() >= broken(rest).max()
    assert broken(first).max() == pytest.approx(worst_by_hand(reduction, point))
    assert len(separation.violated(point, 10_000)) == 0


@pytest.mark.parametrize(("case", "settings"), CASES)
def test_rows_hold_wherever_their_forms_do(case: Case, settings: ScoreSettings) -> None:
    reduction, ones, separation = made(case, settings)
    rows = separation.violated(np.zeros(reduction.columns), 10_000)
    value = rows.matrix @ ones
    assert (value >= rows.lower - 1e-9).all()
    assert (value <= rows.upper + 1e-9).all()
