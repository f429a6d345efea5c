from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formulation import BudgetSolution, BudgetTooSmall, InvalidBudget, SolverFailed, TimeLimitReached, keep_within
from formulation.budget import budget_solution as room
from formulation.errors import InvalidSetting, SolverUnavailable
from tests.formulation.required import require_installed

SCORES = st.lists(st.floats(0, 1) | st.sampled_from([0.0, 1.0]), min_size=1, max_size=4).map(np.array)
# a feeds b, b and a feed c, and what the first and the last layer cost by themselves
CHAIN = [(None, "a", 9.0), ("a", "b", 4.0), ("b", "c", 3.0), ("a", "c", 2.0), ("c", None, 5.0), (None, None, 7.0)]
LENET5 = {"conv1": 6, "conv2": 16, "fc1": 120, "fc2": 84}
LENET5_TERMS = [
    (None, "conv1", 26.0), ("conv1", "conv2", 25.0), (None, "conv2", 1.0), ("conv2", "fc1", 16.0), (None, "fc1", 1.0),
    ("fc1", "fc2", 1.0), (None, "fc2", 1.0), ("fc2", None, 10.0), (None, None, 10.0),
]  # fmt: skip


def cost_of(costs: list, widths: dict[str, int], grids: dict[str, list[int]] | None = None) -> float:
    """The cost by the definition, term after term."""
    total = 0.0
    for producer, consumer, cost in costs:
        if np.ndim(cost):
            row, column = (0 if k is None else grids[k].index(widths[k]) for k in (producer, consumer))
            total += cost[row, column]
        else:
            total += cost * widths.get(producer, 1) * widths.get(consumer, 1)
    return total


def best_value(scores: dict, costs: list, budget: float, allowed: dict[str, list[int]], grids: dict | None) -> float:
    """The highest value over all combinations of widths, -inf where none is within the budget."""
    best = -np.inf
    for combination in product(*allowed.values()):
        widths = dict(zip(allowed, combination, strict=True))
        if cost_of(costs, widths, grids) <= budget:
            best = max(best, sum(np.sort(scores[k])[::-1][:n].sum() / len(scores[k]) for k, n in widths.items()))
    return best


def assert_sound(found: BudgetSolution, scores: dict, costs: list, budget: float, grids: dict | None = None) -> None:
    """The solution means what it says, whatever is optimal."""
    assert {layer: int(mask.sum()) for layer, mask in found.masks.items()} == found.widths
    assert found.cost == pytest.approx(cost_of(costs, found.widths, grids), rel=1e-12)
    assert found.cost <= budget * (1 + 1e-12)
    assert found.value == pytest.approx(sum(scores[k][mask].sum() / len(mask) for k, mask in found.masks.items()))
    assert found.status == "optimal"
    assert found.value <= found.bound <= found.value + 1e-6
    for layer, mask in found.masks.items():
        assert mask.all() or scores[layer][mask].min() >= scores[layer][~mask].max()


def assert_full(found: BudgetSolution, costs: list, budget: float, allowed: dict[str, list[int]]) -> None:
    """No layer could keep its next width as well; scores are 0 or more."""
    for layer, width in found.widths.items():
        for wider in [each for each in allowed[layer] if each > width][:1]:
            assert cost_of(costs, found.widths | {layer: wider}) > budget * (1 - 1e-12)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(SCORES, SCORES, SCORES, st.floats(0, 1), st.data())
def test_nothing_beats_the_units_kept_among_all_combinations_of_widths(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, share: float, data: st.DataObject
) -> None:
    scores = {"a": a, "b": b, "c": c}
    units = {layer: len(values) for layer, values in scores.items()}
    allowed = {k: sorted(data.draw(st.sets(st.integers(1, own), min_size=1)), key=int) for k, own in units.items()}
    least = min(cost_of(CHAIN, dict(zip(allowed, each, strict=True))) for each in product(*allowed.values()))
    budget = least + share * (cost_of(CHAIN, units) - least)
    found = keep_within(scores, CHAIN, budget, allowed=allowed)
    assert_sound(found, scores, CHAIN, budget)
    assert found.value == pytest.approx(best_value(scores, CHAIN, budget, allowed, None), abs=1e-7)
    assert all(width in allowed[layer] for layer, width in found.widths.items())
    assert_full(found, CHAIN, budget, allowed)


@pytest.mark.parametrize("budget", [31.0, 33.5])
def test_a_budget_that_the_solvers_presolve_calls_impossible_is_met(budget: float) -> None:
    scores = {"a": np.zeros(1), "b": np.zeros(3), "c": np.zeros(1)}
    assert keep_within(scores, CHAIN, budget).widths == {"a": 1, "b": 1, "c": 1}


@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.integers(0, 2**16), st.floats(0.05, 1))
def test_measured_tables_that_are_not_monotone_are_solved_exactly(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    scores = {"a": rng.random(5), "b": rng.random(4)}
    grids = {"a": [1, 3, 5], "b": [2, 4]}
    costs = [(None, "a", rng.random((1, 3))), ("a", "b", rng.random((3, 2))), ("b", None, rng.random((2, 1)))]
    costs += [("a", "b", 0.01), (None, None, 0.5)]
    every = [cost_of(costs, dict(zip("ab", each, strict=True)), grids) for each in product(*grids.values())]
    budget = min(every) + share * (max(every) - min(every)) + 1e-9
    found = keep_within(scores, costs, budget, widths=grids)
    assert_sound(found, scores, costs, budget, grids)
    assert found.value == pytest.approx(best_value(scores, costs, budget, grids, grids), abs=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["scip", "cbc", "glpk"])
def test_another_solver_agrees(solver: str) -> None:
    require_installed(solver)
    rng = np.random.default_rng(2)
    scores = {layer: rng.random(units) for layer, units in zip("abc", (6, 5, 4), strict=True)}
    budget = 0.4 * cost_of(CHAIN, {"a": 6, "b": 5, "c": 4})
    found, highs = keep_within(scores, CHAIN, budget, solver=solver), keep_within(scores, CHAIN, budget)
    assert found.solver == solver
    assert found.value == pytest.approx(highs.value, abs=1e-6)
    assert found.bound == pytest.approx(found.value, abs=1e-5)


@pytest.mark.slow
def test_more_budget_is_never_worth_less() -> None:
    rng = np.random.default_rng(3)
    scores = {layer: rng.random(units) for layer, units in LENET5.items()}
    full = cost_of(LENET5_TERMS, LENET5)
    shares = (0.1, 0.5, 1.0)
    found = [keep_within(scores, LENET5_TERMS, share * full) for share in shares]
    values = [each.value for each in found]
    assert values == sorted(values)
    assert found[-1].widths == LENET5
    for share, each in zip(shares, found, strict=True):
        assert_sound(each, scores, LENET5_TERMS, share * full)


def test_a_budget_that_cannot_be_met_names_the_nearest_that_can() -> None:
    scores = {"a": np.ones(4), "b": np.ones(4), "c": np.ones(4)}
    with pytest.raises(BudgetTooSmall, match="budget=20 cannot be met; the nearest that can is 45, at the widths") as e:
        keep_within(scores, CHAIN, 20.0, allowed={"a": [2, 3, 4]})
    assert "a: 2, b: 1, c: 1" in str(e.value)
    assert keep_within(scores, CHAIN, 45.0, allowed={"a": [2, 3, 4]}).widths == {"a": 2, "b": 1, "c": 1}


def test_a_choice_that_only_the_solvers_tolerance_lets_through_is_not_returned() -> None:
    # Keeping all is the best and costs one part in a hundred thousand more than the budget.
    scores = {"a": np.array([0.9, 0.5, 0.5]), "b": np.array([0.9, 0.5])}
    costs = [("a", "b", 1.0), (None, "a", 100_000.0)]
    budget = cost_of(costs, {"a": 3, "b": 2}) - 1.0
    loose = {"mip_feasibility_tolerance": 1e-3, "primal_feasibility_tolerance": 1e-3, "presolve": "off"}
    found = keep_within(scores, costs, budget, solver_options=loose)
    assert found.cost <= budget
    assert found.value == pytest.approx(best_value(scores, costs, budget, {"a": [1, 2, 3], "b": [1, 2]}, None))


def test_layers_are_weighed_as_asked() -> None:
    scores = {"a": np.array([0.6]), "b": np.array([0.5, 0.1, 0.0, 0.0, 0.0, 0.0])}
    scores["a"] = np.array([0.6, 0.6])
    costs = [("a", None, 10.0), ("b", None, 10.0)]
    mean = keep_within(scores, costs, 30.0)
    assert (mean.widths, mean.value) == ({"a": 2, "b": 1}, pytest.approx(0.6 + 0.5 / 6))
    assert keep_within(scores, costs, 30.0, layer_weight="network").value == pytest.approx(1.7 / 8)
    favoured = keep_within(scores, costs, 30.0, layer_weight={"a": 0.0, "b": 2.0})
    assert (favoured.widths, favoured.value) == ({"a": 1, "b": 2}, pytest.approx(1.2))


def test_ties_go_to_the_earlier_units() -> None:
    scores = {"conv1": np.array([0.5, 0.5, 0.5, 0.9]), "conv2": np.ones(3), "fc": np.ones(2)}
    costs = [(None, layer, 1.0) for layer in scores]
    found = keep_within(scores, costs, 7.0, allowed={"conv2": [3], "fc": (2,)})
    assert found.masks["conv1"].tolist() == [True, False, False, True]
    assert found.masks["conv2"].all()
    assert found.masks["fc"].all()


def test_layers_that_cost_nothing_are_kept_where_they_are_worth_something() -> None:
    assert keep_within({"a": np.ones(3)}, [], 0.0).widths == {"a": 3}


def test_bad_input_gets_one_clear_line() -> None:
    scores = {"conv1": np.ones(3), "fc1": np.ones(9)}
    costs = [("conv1", "fc1", 1.0)]
    for arguments, message in (
        ({"allowed": {"conv1": [1, 4]}}, "allowed of layer 'conv1' must ascend from 1 or more to at most 3"),
        ({"allowed": {"conv1": []}}, "allowed of layer 'conv1' must ascend"),
        ({"allowed": {"conv1": [0, 1]}}, "allowed of layer 'conv1' must ascend from 1"),
        ({"allowed": {"conv1": [1.5]}}, "allowed of layer 'conv1' are no whole numbers"),
        ({"allowed": {"conv": [1]}}, "layer 'conv' has no scores; did you mean 'conv1'"),
        ({"allowed": {"x": [1]}}, "layer 'x' has no scores; use 'conv1', 'fc1'"),
        ({"widths": {"fc1": [1.0, 3.5]}}, "widths of layer 'fc1' are no whole numbers"),
        ({"widths": {"fc": [1]}}, "layer 'fc' has no scores; did you mean 'fc1'"),
        ({"widths": {"fc1": [3, 1]}}, "widths of layer 'fc1' must ascend"),
        ({"widths": {"fc1": [5]}, "allowed": {"fc1": [2, 4]}}, r"none of the widths \[5\] of layer 'fc1'"),
        ({"layer_weight": "kernel"}, "layer_weight='kernel' is unknown"),
        ({"layer_weight": {"fc1": 1.0}}, "layer_weight has no finite number for layer 'conv1'"),
        ({"gap": -1.0}, "gap=-1.0"),
    ):
        with pytest.raises(InvalidBudget, match=message):
            keep_within(scores, costs, 10.0, **arguments)
    with pytest.raises(InvalidBudget, match="budget=nan"):
        keep_within(scores, costs, float("nan"))
    with pytest.raises(InvalidBudget, match="score of unit 1 of 'a' is nan"):
        keep_within({"a": np.array([0.0, np.nan])}, [], 1.0)
    with pytest.raises(InvalidBudget, match="there are no scores"):
        keep_within({}, [], 1.0)
    with pytest.raises(InvalidSetting, match="time_limit"):
        keep_within(scores, costs, 10.0, time_limit=0.0)
    with pytest.raises(SolverUnavailable, match="'hihgs' is not installed"):
        keep_within(scores, costs, 10.0, solver="hihgs")


def test_costs_that_do_not_fit_get_one_clear_line() -> None:
    scores = {"conv1": np.ones(3), "fc1": np.ones(9)}
    for cost, message in (
        (("conv2", None, 1.0), "layer 'conv2' has no scores; did you mean 'conv1'"),
        (("conv*", None, 1.0), "layer 'conv\\*' has no scores; did you mean 'conv1'"),
        ((None, "fc1", np.inf), "the cost of 'None' feeding 'fc1' is not finite"),
        (("conv1", "fc1", np.ones((2, 2))), "widths has no grid of 'fc1'"),
        (("conv1", None, np.ones((2, 2))), r"a table of shape \(2, 2\), its widths ask for \(2, 1\)"),
    ):
        with pytest.raises(InvalidBudget, match=message):
            keep_within(scores, [cost], 10.0, widths={"conv1": [1, 3]})


def test_a_time_limit_that_passes_is_an_error() -> None:
    rng = np.random.default_rng(0)
    scores = {layer: rng.random(units) for layer, units in LENET5.items()}
    with pytest.raises(TimeLimitReached, match=r"passed before (highs had proved|the program was written)"):
        keep_within(scores, LENET5_TERMS, 20_000.0, time_limit=1e-3)


def test_a_solver_that_calls_a_possible_budget_impossible_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, whole = {"a": np.ones(2)}, room.build_budget_program
    # A program of a budget that nothing meets stands for a solver that is wrong.
    monkeypatch.setattr(
        room, "build_budget_program", lambda layers, costs, b, _: whole(layers, costs, None if b is None else -1.0)
    )
    with pytest.raises(SolverFailed, match="although widths that cost 1 exist"):
        keep_within(scores, [("a", None, 1.0)], 2.0)


@pytest.mark.parametrize("factor", [1e-10, 1e-8, 1e-6, 1e4, 1e10])
def test_the_unit_of_the_scores_changes_no_choice(factor: float) -> None:
    units = {"a": 12, "b": 9, "c": 14}
    rng = np.random.default_rng(5)
    scores = {layer: rng.random(own) for layer, own in units.items()}
    allowed = {layer: list(range(1, own + 1)) for layer, own in units.items()}
    budget = 0.25 * cost_of(CHAIN, units)
    plain = keep_within(scores, CHAIN, budget)
    found = keep_within({layer: factor * own for layer, own in scores.items()}, CHAIN, budget)
    assert all(np.array_equal(found.masks[layer], plain.masks[layer]) for layer in units)
    assert found.value / factor == pytest.approx(best_value(scores, CHAIN, budget, allowed, None), rel=1e-9)
    assert found.value <= found.bound <= found.value * (1 + 1e-6)


def test_scores_of_zero_are_a_choice_like_any_other() -> None:
    found = keep_within({"a": np.zeros(3), "b": np.zeros(2)}, [("a", "b", 1.0)], 4.0)
    assert_sound(found, {"a": np.zeros(3), "b": np.zeros(2)}, [("a", "b", 1.0)], 4.0)


def test_a_constant_cost_above_the_budget_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {layer: np.linspace(0, 1, 12) for layer in "abc"}
    with monkeypatch.context() as watched:
        watched.setattr(room, "gate_cuts", None)  # no choice is forbidden, one by one
        with pytest.raises(BudgetTooSmall, match="budget=5 cannot be met; the nearest that can is 10, at the widths"):
            keep_within(scores, [(None, None, 10.0)], 5.0)
        # Below the least cost by less than the solver's tolerance.
        with pytest.raises(BudgetTooSmall, match="the nearest that can is 1000003, at the widths a: 1, b: 1, c: 1"):
            keep_within(scores, [(None, None, 1e6), *((None, layer, 1.0) for layer in "abc")], 1e6 + 3 - 1e-5)
        with pytest.raises(BudgetTooSmall, match="the nearest that can is 1, at the widths"):
            keep_within(scores, [("a", "b", 1.0)], 1 - 1e-6)


@pytest.mark.parametrize("worth", [0.0, 1e-7])
def test_room_that_units_of_little_value_would_take_is_not_left_empty(worth: float) -> None:
    scores = {layer: np.where(np.arange(units) < 3, 1.0, worth) for layer, units in LENET5.items()}
    allowed = {layer: list(range(1, units + 1)) for layer, units in LENET5.items()}
    whole = cost_of(LENET5_TERMS, LENET5)
    found = keep_within(scores, LENET5_TERMS, 0.6 * whole, layer_weight="network", gap=1e-3)
    assert_full(found, LENET5_TERMS, 0.6 * whole, allowed)
    assert found.cost > 0.55 * whole
    assert found.value <= found.bound


def test_room_is_shared_by_layers_whose_units_are_worth_the_same() -> None:
    scores = {"a": np.zeros(10), "b": np.zeros(20)}
    found = keep_within(scores, [(None, "a", 1.0), (None, "b", 1.0)], 15.0)
    assert found.widths == {"a": 5, "b": 10}


def test_units_that_lower_the_value_are_not_kept_to_fill_room() -> None:
    found = keep_within({"a": np.array([1.0, 0.0, -1.0])}, [(None, "a", 1.0)], 3.0)
    assert found.masks["a"].tolist() == [True, True, False]
