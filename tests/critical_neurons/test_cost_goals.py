"""The verb prune within a cost: goals are kept, and units and layers are those that do best on the judging images."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import critical_neurons as cn
import training
from critical_neurons import ScoreResult, pruned
from critical_neurons.removal import cost_goals
from critical_neurons.removal.chosen_units import SUMS_STAY
from critical_neurons.removal.goals import Goal
from formulation import BudgetTooSmall
from tests.residual_network import Stream
from training import Dataset, Limits


@pytest.mark.parametrize("goal", ["parameters", "multiply_adds"])
def test_a_budget_is_kept_and_used_by_a_ranking_without_ties(network: nn.Module, digits: Dataset, goal: str) -> None:
    norms = {layer: network.get_submodule(layer).weight.norm(dim=1).tolist() for layer in ("1", "3")}
    asked: dict[str, Any] = {goal: 0.6}
    gone = cn.prune(network, digits.train, scores=norms, refit=False, **asked).removal
    # One unit of the first layer is a twentieth of either.
    assert 0.54 < getattr(gone, f"{goal}_after") / getattr(gone, f"{goal}_before") <= 0.6


@pytest.mark.slow  # every layer is timed at several widths
def test_a_budget_of_measured_seconds_takes_units_away(digits: Dataset) -> None:
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Flatten(), nn.Linear(784, 600), nn.ReLU(), nn.Linear(600, 10)).eval()
    values = {"1": np.arange(600.0)}
    found = cn.prune(wide, digits.validation, scores=values, refit=False, latency=0.7)
    assert 0 < found.removal.units_removed < 600
    assert "until 70% of the measured seconds remain (0." in str(found)


@pytest.mark.parametrize("part", [0.15, 0.3])
def test_within_a_cost_the_numbers_of_units_are_those_of_the_better_ranking(
    network: nn.Module, digits: Dataset, part: float
) -> None:
    usual, own = (
        cn.prune(network, digits.train, multiply_adds=part, validation=digits.validation, images=50, scores=scores)
        for scores in (None, cn.score(network, digits.train, images=50))
    )
    costs = training.answer_costs(network, digits.train.images[:1000], ("1", "3"))
    counted = cost_goals.within_cost(
        network, costs, Goal("multiply_adds", part), Limits(), digits.train.images[:1], together=True, threads=1
    )
    refitted = training.refit(network, counted.masks, digits.train.images[:1000])
    theirs = training.evaluate(refitted, digits.validation).accuracy
    assert usual.accuracy >= max(own.accuracy, theirs) - 1e-9
    if "how many of each layer" in str(usual):
        assert all(np.array_equal(usual.masks[layer], counted.masks[layer]) for layer in costs)
        assert usual.accuracy > own.accuracy
    assert usual.removal.multiply_adds_after <= part * usual.removal.multiply_adds_before


@pytest.mark.filterwarnings("ignore:overflow")  # the span of these values is infinite, which the budget program refuses
def test_within_a_cost_another_ranking_that_cannot_be_used_is_passed_over(
    network: nn.Module, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruned, "other_rankings", lambda *_: ({"1": np.array([-1e308, 1e308] * 10)},))
    found = cn.prune(network, digits.train, multiply_adds=0.5, validation=digits.validation, images=20)
    assert found.removal.multiply_adds_after <= 0.5 * found.removal.multiply_adds_before
    assert "how many of each layer" not in str(found)


def test_a_budget_below_all_widths_is_refused_with_the_smallest_that_can_be(
    network: nn.Module, digits: Dataset, scored: ScoreResult
) -> None:
    with pytest.raises(BudgetTooSmall, match="the nearest that can is"):
        cn.prune(network, digits.train, scores=scored, parameters=0.01)


class Grouped(nn.Module):
    """A grouped convolution that may lose inputs and outputs: its cost is not that of counts."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3, groups=2), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.second(torch.relu(self.first(x)))).mean((2, 3)))


@pytest.mark.parametrize("goal", [{"multiply_adds": 0.6}, {"parameters": 0.5}])
@pytest.mark.parametrize("large", [False, True])
def test_a_cost_that_no_program_of_widths_holds_is_met_by_shares(
    goal: dict[str, float], large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network, images = Grouped().eval(), torch.rand(8, 1, 8, 8)
    if large:
        network.second = nn.Conv2d(8, 8, 3)
        monkeypatch.setattr(cost_goals, "LARGEST", 63)  # of the 64 pairs that there are
    ranking, data = {"first": np.arange(8.0), "second": np.arange(8.0)[::-1]}, (images, network(images).argmax(1))
    found = cn.prune(network, data, scores=ranking, refit=False, validation=data, **goal)
    assert "least share within the goal" in found.notes[0]
    (name, part), account = next(iter(goal.items())), found.removal
    left = {layer: int(mask.sum()) for layer, mask in found.masks.items()}
    assert getattr(account, f"{name}_after") <= part * getattr(account, f"{name}_before")
    more = {layer: rank >= 8 - left[layer] - 1 for layer, rank in ranking.items()}  # one unit more of each
    assert getattr(training.removal(network, more, images), f"{name}_after") > part * getattr(account, f"{name}_before")


@pytest.mark.parametrize("seed", range(4))
def test_a_cost_goal_holds_for_the_units_that_go_in_the_end(seed: int) -> None:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3, groups=4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4)]
    network, images = nn.Sequential(*layers).eval(), torch.rand(60, 3, 6, 6)
    data = (images, network(images).argmax(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cn.DoubtfulScores)
        found = cn.prune(network, data, multiply_adds=0.5, images=20)
    account = found.removal
    left = account.multiply_adds_after / account.multiply_adds_before
    assert left <= 0.5
    assert f"({left:.3f} of them do)" in found.asked


@pytest.fixture(scope="module")
def residual(digits: Dataset) -> nn.Module:
    torch.manual_seed(0)
    settings = training.FitSettings(epochs=15, learning_rate=0.01)
    return training.fit(Stream(49, 4), digits.train, digits.validation, settings).model


def test_to_a_tolerance_that_leaves_fewer_multiply_adds(residual: nn.Module, digits: Dataset) -> None:
    goal = {"tolerance": 2.0, "validation": digits.validation, "images": 50}
    usual, apart = (cn.prune(residual, digits.train, **goal, **asked) for asked in ({}, {"leave_alone": "stem"}))
    scores = cn.score(residual, digits.train, images=50)
    own = cn.prune(residual, digits.train, scores=scores, **goal)
    assert usual.removal.multiply_adds_after <= apart.removal.multiply_adds_after
    assert usual.accuracy >= usual.accuracy_before - 0.02
    assert (SUMS_STAY in usual.notes) == bool(usual.masks["stem"].all())
    assert SUMS_STAY not in own.notes
    assert usual.tried > apart.tried


def test_units_of_a_sum_stay_where_that_is_better(residual: nn.Module, digits: Dataset) -> None:
    network = residual
    scores = cn.score(network, digits.train, images=50)
    goal = {"parameters": 0.85, "validation": digits.validation, "images": 50}
    usual, own, apart = (
        cn.prune(network, digits.train, **goal, **asked)
        for asked in ({}, {"scores": scores}, {"scores": scores, "leave_alone": "stem"})
    )
    assert usual.accuracy >= max(own.accuracy, apart.accuracy) - 1e-9
    assert (SUMS_STAY in usual.notes) == bool(usual.masks["stem"].all())
    assert SUMS_STAY in usual.notes
    assert usual.accuracy > own.accuracy
    assert not any(SUMS_STAY in each.notes for each in (own, apart))
    assert usual.removal.parameters_after <= 0.85 * usual.removal.parameters_before
