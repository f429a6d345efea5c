"""Incumbents: points snapped to their bounds, drawn inside, completed, and their true objective."""

from __future__ import annotations

import numpy as np
import pytest

from formulation.deadline import NEVER
from formulation.solve.incumbents import AT_BOUND, drawn_towards, incumbent_at, snapped, whole_point
from formulation.solve.separation import TangentPoint, complete
from tests.formulation.cases import dense
from tests.formulation.oracles import objective_of
from tests.formulation.paper_settings import paper_settings


def test_scores_at_a_bound_but_for_the_tolerance_are_there_exactly_and_other_columns_stay() -> None:
    point = np.array([-1e-7, AT_BOUND / 2, 0.3, 1 - AT_BOUND / 2, 1.1, -7.0, AT_BOUND / 2])
    np.testing.assert_array_equal(snapped(point, 5), [0.0, 0.0, 0.3, 1.0, 1.0, -7.0, AT_BOUND / 2])


def test_the_objective_is_that_of_the_scores() -> None:
    case, settings = dense(1), paper_settings(radius=0.05, loss_weight=5)
    reduction = case.reduction(settings)
    scores = np.ones(reduction.scores)
    made = incumbent_at(reduction, settings, *complete(reduction, scores))
    assert made.objective == pytest.approx(objective_of(case, reduction.network.unstack(scores), 5.0))
    assert made.objective == settings.objective(made.loss, made.sparsity)


@pytest.mark.parametrize(("step", "expected"), [(0.0, 1.0), (0.25, 2.0), (1.0, 5.0)])
def test_a_point_on_the_way_has_its_logits_from_both_ends(step: float, expected: float) -> None:
    reduction = dense(1).reduction(settings := paper_settings(radius=0.05))
    inside = incumbent_at(reduction, settings, *complete(reduction, np.ones(reduction.scores)))
    outside = TangentPoint(5 * inside.point, 5 * inside.logits)
    point, logits = drawn_towards(inside, outside, step)
    np.testing.assert_allclose(point, expected * inside.point)
    np.testing.assert_allclose(logits, expected * inside.logits)


def test_whole_phases_are_followed_and_whole_scores_rounded() -> None:
    case = dense(1)
    relaxed = paper_settings(radius=0.05, integer_scores=True)
    reduction = case.reduction(relaxed)
    point, logits = complete(reduction, np.full(reduction.scores, 0.6))
    candidate, same = whole_point(reduction, relaxed, point, logits, NEVER)
    np.testing.assert_array_equal(candidate[: reduction.scores], 1.0)
    np.testing.assert_array_equal(candidate[reduction.scores :], point[reduction.scores :])
    assert same is logits
    followed = whole_point(reduction, paper_settings(radius=0.05, relax=False), point + 1e-3, logits, NEVER)
    expected = complete(reduction, point[: reduction.scores] + 1e-3)
    for found, by_hand in zip(followed, expected, strict=True):
        np.testing.assert_array_equal(found, by_hand)
