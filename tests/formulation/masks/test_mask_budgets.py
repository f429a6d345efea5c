"""Budgets: rows that every admitted mask keeps, and words for budgets that none keeps."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from formulation import BudgetTooSmall, InvalidBudget, lower
from formulation.masks.budgets import (
    Branch,
    CostLimit,
    MaskBudget,
    Region,
    admits,
    cost_of,
    feasible_widths,
    require_feasible,
    require_layers,
    rows_of,
)
from tests.formulation.cases import dense

CASE = dense(0, hidden=(4, 3), images=2)
NETWORK = lower(CASE.model, CASE.images)
FIRST, SECOND = NETWORK.units
MASKS = [np.array(values) for values in itertools.product((0.0, 1.0), repeat=NETWORK.score_count)]


def parameters(most: float) -> CostLimit:
    """What the network's weights and biases come to: 4 inputs, 3 classes."""
    terms = ((None, FIRST, 5.0), (FIRST, SECOND, 1.0), (None, SECOND, 4.0), (None, None, 3.0))
    return CostLimit("parameters", terms, most)


@st.composite
def budgets(draw: st.DrawFn) -> MaskBudget:
    """Several limits at once."""
    some = st.none() | st.integers(1, 7)
    return MaskBudget(
        counts=draw(st.sampled_from([{}, {FIRST: 2}, {SECOND: 1}])),
        at_most=draw(st.sampled_from([{}, {FIRST: 3}, {FIRST: 2, SECOND: 2}])),
        units=draw(some),
        costs=draw(st.sampled_from([(), (parameters(30.0),), (parameters(18.0), parameters(40.0))])),
        changes=draw(some),
    )


@settings(max_examples=80, deadline=None)
@given(budget=budgets(), seed=st.integers(0, 10**6))
def test_every_admitted_mask_of_a_region_keeps_its_rows(budget: MaskBudget, seed: int) -> None:
    draw = np.random.default_rng(seed)
    base = MASKS[int(draw.integers(len(MASKS)))]
    region = Region.whole(NETWORK)
    for _ in range(int(draw.integers(4))):
        unit = Branch("unit", int(draw.integers(7)), 0, bool(draw.integers(2)))
        width = Branch("width", int(draw.integers(2)), int(draw.integers(1, 3)), bool(draw.integers(2)))
        region = region.after(unit if draw.integers(2) else width)
    rows = rows_of(NETWORK, budget, base, region)
    for mask in MASKS:
        widths = np.array([mask[where].sum() for where in NETWORK.score_slices.values()])
        inside = np.all((region.lower <= mask) & (mask <= region.upper))
        if (
            inside
            and np.all((region.least <= widths) & (widths <= region.most))
            and admits(NETWORK, budget, base, mask)
        ):
            assert np.all(rows.matrix @ mask <= rows.most + 1e-9)


@settings(max_examples=80, deadline=None)
@given(budget=budgets(), seed=st.integers(0, len(MASKS) - 1))
def test_a_budget_is_feasible_where_some_mask_is_admitted_and_a_refusal_names_what_is_wrong(
    budget: MaskBudget, seed: int
) -> None:
    base = MASKS[seed]
    admitted = [mask for mask in MASKS if admits(NETWORK, budget, base, mask)]
    assert (feasible_widths(NETWORK, budget, base) is not None) == bool(admitted)
    if admitted:
        widths = require_feasible(NETWORK, budget, base)
        assert any(
            widths == {name: mask[where].sum() for name, where in NETWORK.score_slices.items()} for mask in admitted
        )
    else:
        with pytest.raises(InvalidBudget, match=r"no mask keeps|contradict each other"):
            require_feasible(NETWORK, budget, base)


def test_where_widths_are_fixed_the_rows_of_a_product_are_exact() -> None:
    budget = MaskBudget(counts={FIRST: 3}, costs=(parameters(26.0),))
    region = Region.whole(NETWORK).after(Branch("width", 0, 2, True)).after(Branch("width", 0, 3, False))
    rows = rows_of(NETWORK, budget, np.ones(7), region)
    for mask in MASKS:
        kept = bool(np.all(rows.matrix @ mask <= rows.most + 1e-9))
        assert kept == admits(NETWORK, budget, np.ones(7), mask)


def test_a_budget_below_the_floor_is_told_the_smallest_that_can_be_met() -> None:
    with pytest.raises(BudgetTooSmall, match=r"parameters of at most 12.*one unit in each layer has parameters of 13"):
        require_feasible(NETWORK, MaskBudget(costs=(parameters(12.0),)), np.ones(7))
    with pytest.raises(BudgetTooSmall, match=r"at most 1 units.*raise units to 2"):
        require_feasible(NETWORK, MaskBudget(units=1), np.ones(7))


def test_contradictory_budgets_are_named_two_where_two_suffice() -> None:
    budget = MaskBudget(counts={FIRST: 4, SECOND: 1}, units=4, costs=(parameters(1000.0),))
    said = rf"'4 units of {FIRST}' and 'at most 4 units' contradict each other; .* at least 5 units"
    with pytest.raises(InvalidBudget, match=said):
        require_feasible(NETWORK, budget, np.ones(7))
    with pytest.raises(InvalidBudget, match=rf"'1 units of {FIRST}' and 'at most 2 changes' contradict"):
        require_feasible(NETWORK, MaskBudget(counts={FIRST: 1}, changes=2), np.ones(7))
    with pytest.raises(InvalidBudget, match=r"'parameters of at most 20' and 'at most 1 changes' contradict.*at least"):
        require_feasible(NETWORK, MaskBudget(costs=(parameters(20.0),), changes=1), np.ones(7))


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (lambda: MaskBudget(counts={"nowhere": 1}), "no scored layer"),
        (lambda: MaskBudget(counts={FIRST: 9}), "which has 4"),
        (lambda: MaskBudget(counts={FIRST: 0}), "at least 1"),
        (lambda: MaskBudget(units=-1), "at least 0"),
        (lambda: MaskBudget(costs=(CostLimit("seconds", ((None, FIRST, np.ones((1, 3))),), 1.0),)), "is a table"),
        (lambda: MaskBudget(costs=(CostLimit("parameters", ((None, FIRST, -1.0),), 1.0),)), "at least 0"),
        (lambda: MaskBudget(costs=(CostLimit("parameters", (), float("nan")),)), "not finite"),
    ],
)
def test_a_budget_that_means_nothing_is_refused(budget, said: str) -> None:
    with pytest.raises(InvalidBudget, match=said):
        require_layers(NETWORK, budget())


def test_a_budget_is_written_and_read_again() -> None:
    budget = MaskBudget({FIRST: 2}, {SECOND: 2}, 5, (parameters(30.0),), 3)
    assert MaskBudget.from_dict(budget.to_dict()) == budget
    assert cost_of(parameters(1.0), {FIRST: 2, SECOND: 3}) == 3 + 10 + 6 + 12
