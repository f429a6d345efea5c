"""Selections on values alone, without any run."""

import numpy as np
import pytest
import torch
from torch import nn

import training
from flows.adapters.unit_selection import (
    account_of,
    choice_in_words,
    plan_of,
    require_budget,
    select,
    select_within_budget,
)
from flows.cache import StageResult, unheard
from flows.config.settings import Settings
from flows.errors import BudgetExceeded, SettingsError
from flows.stages.pruning.prune import log_budget
from training import UnitCosts

EXAMPLE = torch.zeros(1, 1, 4, 4)
WIDTHS = {"1": 12, "3": 8}
BUDGET = Settings(selection="budget", budget=0.5)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))


def account(settings: Settings) -> UnitCosts:
    found = account_of(settings, network(), WIDTHS, EXAMPLE)
    assert found is not None
    return found


def remaining(masks: training.Masks) -> float:
    return 1.0 - training.removal(network(), masks, EXAMPLE).parameters_removed_share


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_budget_is_used_up_whatever_the_sign_of_the_values(sign: float) -> None:
    rng = np.random.default_rng(0)
    values = {layer: sign * rng.random(units) for layer, units in WIDTHS.items()}
    masks = select(BUDGET, values, values, account(BUDGET)).masks
    # 17 parameters more for a unit of the first layer, and what its readers have: less than 30 of 335
    assert 0.5 - 30 / 335 <= remaining(masks) <= 0.5
    for layer, mask in masks.items():
        assert values[layer][mask].min() >= values[layer][~mask].max(initial=-np.inf)


def test_units_that_are_gone_stay_gone_under_a_budget() -> None:
    rng = np.random.default_rng(0)
    left = {layer: rng.random(units) < 0.7 for layer, units in WIDTHS.items()}
    values = {layer: np.where(mask, -rng.random(len(mask)), -9.0) for layer, mask in left.items()}
    masks = select_within_budget(BUDGET, account(BUDGET), values, 0.9, left)
    assert not any((mask & ~left[layer]).any() for layer, mask in masks.items())


def test_a_layer_left_alone_keeps_all_units_under_a_budget() -> None:
    settings = Settings(selection="budget", budget=0.8, leave_alone="1")
    values = {layer: np.linspace(0, 1, units) for layer, units in WIDTHS.items()}
    masks = select(settings, values, values, account(settings)).masks
    assert masks["1"].all()
    assert 0.8 - 16 / 335 < remaining(masks) <= 0.8


def test_the_steps_of_a_budget_fall_evenly_to_it() -> None:
    settings = Settings(selection="budget", budget=0.2, steps=4)
    plan = plan_of(settings, WIDTHS, account(settings))
    np.testing.assert_allclose(plan.targets, [0.8, 0.6, 0.4, 0.2])
    values = {layer: np.linspace(0, 1, units) for layer, units in WIDTHS.items()}
    full = {layer: np.ones(units, bool) for layer, units in WIDTHS.items()}
    for share, target in zip(plan.shares, plan.targets, strict=True):
        assert target - 0.1 < remaining(plan.selector(values, full, share)) <= target


def test_a_budget_below_what_shares_of_units_reach_is_no_obstacle() -> None:
    narrow = {"1": 2, "3": 2}
    settings = Settings(selection="budget", budget=0.3, steps=2)
    plan = plan_of(settings, narrow, None)
    assert plan.shares[-1] <= 0.5
    assert plan.targets[-1] == 0.3


def test_the_least_a_latency_grid_holds_is_the_floor_and_the_most_the_width() -> None:
    settings = Settings(selection="budget", budget_on="latency", floor=3, round_to=2)
    measured = account(settings)
    assert measured.widths == {"1": [4, 6, 8, 10, 12], "3": [4, 6, 8]}
    assert all(np.isfinite(measured.seconds["seconds"]))
    values = {layer: np.linspace(0, 1, units) for layer, units in WIDTHS.items()}
    masks = select_within_budget(settings, measured, values, 1.5)
    assert {layer: mask.sum() for layer, mask in masks.items()} == WIDTHS


def test_leaving_every_layer_alone_is_refused() -> None:
    with pytest.raises(SettingsError, match="leaves no layer to prune"):
        account_of(BUDGET.model_copy(update={"leave_alone": "1,3"}), network(), WIDTHS, EXAMPLE)


def test_a_budget_that_no_widths_meet_is_refused_with_the_nearest_that_does() -> None:
    settings = Settings(selection="budget", budget=0.05)
    with pytest.raises(SettingsError) as caught:
        require_budget(settings, network(), WIDTHS, EXAMPLE)
    # with one unit each 16 + 1, 1 + 1 and 3 + 3 parameters of 335, rounded up
    assert "the nearest that can is 0.074627, at the widths 1: 1, 3: 1" in str(caught.value)
    require_budget(settings.model_copy(update={"budget": 0.074627}), network(), WIDTHS, EXAMPLE)
    require_budget(settings.model_copy(update={"budget_on": "latency"}), network(), WIDTHS, EXAMPLE)


def _dearer_when_narrower() -> UnitCosts:
    """Seconds that do not fall with the width: layer 1 is cheapest at its full width."""
    first = np.array([[0.7], [0.9], [0.1]])
    second = np.array([[0.05, 0.1], [0.05, 0.1], [0.05, 0.1]])
    return UnitCosts(("1", "3"), (("1", None, first), ("1", "3", second)), {"1": [4, 8, 12], "3": [4, 8]})


def test_no_layer_keeps_more_units_than_it_has_left_even_where_more_are_cheaper() -> None:
    left = {"1": np.arange(12) < 8, "3": np.arange(8) < 4}
    # Units that are gone lie below all others.
    values = {layer: np.where(mask, 1.0, -1.0) for layer, mask in left.items()}
    measured, settings = _dearer_when_narrower(), BUDGET.model_copy(update={"budget_on": "latency"})
    masks = select_within_budget(settings, measured, values, 0.8, left)
    assert {layer: int(mask.sum()) for layer, mask in masks.items()} == {"1": 4, "3": 4}
    assert not any((mask & ~left[layer]).any() for layer, mask in masks.items())
    assert measured.cost_of(masks) == pytest.approx(0.75)
    log_budget(settings.model_copy(update={"budget": 0.75}), StageResult(unheard), measured, masks)
    with pytest.raises(BudgetExceeded, match=r"what is left costs 0\.95 of the whole network, more than budget=0\.8"):
        log_budget(settings.model_copy(update={"budget": 0.8}), StageResult(unheard), measured, left)


def test_the_cost_of_masks_is_that_of_the_network_without_the_units() -> None:
    rng = np.random.default_rng(0)
    masks = {layer: rng.random(units) < 0.6 for layer, units in WIDTHS.items()}
    assert account(BUDGET).cost_of(masks) == pytest.approx(remaining(masks))


@pytest.mark.parametrize("selection", ["share", "quantile"])
def test_a_share_of_nothing_cannot_be_taken_in_steps(selection: str) -> None:
    with pytest.raises(SettingsError, match=r"^share=0 leaves nothing to remove in steps"):
        plan_of(Settings.model_validate({"selection": selection, "share": 0.0}), WIDTHS, None)


def test_the_steps_are_part_of_the_choice_in_words_whatever_the_schedule() -> None:
    assert "in 4 steps" in choice_in_words(Settings(steps=4, schedule="iterative"))
    assert "in 4 steps" in choice_in_words(Settings(steps=4), gradual=True)
    assert "steps" not in choice_in_words(Settings(steps=4))


def test_a_tolerance_is_no_matter_of_values_alone_nor_of_steps() -> None:
    settings = Settings(selection="tolerance", tolerance=0.25)
    values = {layer: np.ones(units) for layer, units in WIDTHS.items()}
    with pytest.raises(SettingsError, match="only a prune stage measures"):
        select(settings, values, values, None)
    with pytest.raises(SettingsError, match="selection=tolerance cannot be taken in steps"):
        plan_of(settings, WIDTHS, None)
    assert "cost at most 0.25 points" in choice_in_words(settings)


def test_the_choice_in_words_says_that_a_simple_rule_leaves_the_scores_aside() -> None:
    assert "ranked by l2_norm instead of scores" in choice_in_words(Settings(rule="l2_norm"))
    assert "instead" not in choice_in_words(Settings(rule="critical"))
