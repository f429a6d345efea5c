"""A total order for units that tie: scores first, reduced costs at their bounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formulation import InvalidSolution, ScoreSettings, Solution, importance
from tests.formulation.cases import dense

SETTINGS = ScoreSettings(gate="linear", radius=0, gap=1e-6, loss_weight=2.0)
CASE = dense(1, hidden=(8, 6), images=4)


def with_values(solution: Solution, scores: list[float], costs: list[float]) -> Solution:
    return replace(solution, scores={"a": np.array(scores)}, reduced_costs={"a": np.array(costs)})


values = st.lists(
    st.tuples(st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1)), st.floats(-5, 5)), min_size=1, max_size=8
)


@settings(max_examples=50, deadline=None)
@given(values)
def test_the_order_of_the_scores_never_changes(solution: Solution, drawn: list[tuple[float, float]]) -> None:
    scores, costs = (list(column) for column in zip(*drawn, strict=True))
    made = importance(with_values(solution, scores, costs))["a"]
    for i, j in np.ndindex(len(scores), len(scores)):
        if scores[i] > scores[j]:
            assert made[i] > made[j]


def test_of_two_units_at_1_the_dearer_one_matters_more_and_at_0_the_one_that_would_cost_less(
    solution: Solution,
) -> None:
    made = importance(with_values(solution, [1.0, 1.0, 0.5, 0.0, 0.0], [-0.1, -0.2, 0.0, 0.3, 0.1]))["a"]
    assert made.argsort().tolist() == [3, 4, 2, 0, 1]
    assert made[0] == pytest.approx(1.0 + 0.1 * 0.1 * 5)
    assert made[2] == 0.5


def test_what_a_unit_costs_is_shared_among_all_layers_where_the_layer_weight_is_the_networks(
    solution: Solution,
) -> None:
    costs = {"a": np.array([-0.1]), "b": np.array([-0.1, 0.0, 0.0])}
    made = replace(solution, scores={name: np.ones(len(cost)) for name, cost in costs.items()}, reduced_costs=costs)
    of_units = importance(made)
    certificate = replace(made.certificate, settings={**made.certificate.settings, "layer_weight": "network"})
    of_network = importance(replace(made, certificate=certificate))
    assert [of_units[name][0] for name in "ab"] == pytest.approx([1.01, 1.03])
    assert [of_network[name][0] for name in "ab"] == pytest.approx([1.04, 1.04])


def test_a_solved_program_has_one_importance_per_unit(solution: Solution) -> None:
    made = importance(solution)
    assert {name: v.shape for name, v in made.items()} == {name: v.shape for name, v in solution.scores.items()}
    assert any((made[name] != solution.scores[name]).any() for name in made)


def test_without_a_proof_the_scores_are_the_importance(solution: Solution) -> None:
    made = importance(replace(solution, reduced_costs={}))
    for name, scores in solution.scores.items():
        np.testing.assert_array_equal(made[name], scores)


def test_reduced_costs_of_other_units_are_refused(solution: Solution) -> None:
    with pytest.raises(InvalidSolution, match="one per score"):
        importance(replace(solution, reduced_costs={"a": np.zeros(2)}))
