"""Ranking benchmark: counts are what a level leaves, and tables say where the choice is behind."""

import numpy as np
import pytest
import torch
from torch import nn

import training
from benchmarks.ranked.cells import COUNTINGS, Bench, Cell
from benchmarks.ranked.counting import counts_at
from benchmarks.ranked.program_steps import step
from benchmarks.ranked.rules import SIMPLE
from benchmarks.ranked.tables import Group, area_table, lead_table
from benchmarks.ranked.trials import Trials
from training import Dataset, Split

LEVELS = ("0.1", "0.8", "0.9")


@pytest.fixture(scope="module")
def bench() -> Bench:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
    images = torch.rand((60, 1, 4, 4), generator=torch.Generator().manual_seed(1))
    split = Split(images, network(images).argmax(1))
    data = Dataset("drawn", split, split, split, ("a", "b", "c"))
    cell = Cell("fc3", "mnist", 0, (0.5,), 60, "", "")
    return Bench(cell, network.eval(), data, ("1", "3"), split.images, split.labels)


@pytest.mark.parametrize("counting", COUNTINGS)
def test_a_level_takes_its_share_of_what_is_counted(bench: Bench, counting: str) -> None:
    scores = {layer: np.random.default_rng(2).random(units) for layer, units in bench.widths.items()}
    removed = counts_at(bench, counting, 0.5, scores)
    masks = training.by_counts(scores, removed)
    if counting == "uniform":
        assert removed == {"1": 6, "3": 4}
    elif counting == "own":
        assert sum(removed.values()) == 10
    else:
        share = training.removal(bench.dense, masks, bench.images[:1]).multiply_adds_removed_share
        assert 0.5 <= share < 0.65


def test_a_step_of_the_mask_program_lets_few_units_come_back(bench: Bench) -> None:
    scores = {layer: np.random.default_rng(2).random(units) for layer, units in bench.widths.items()}
    first = training.by_share(scores, 0.25).masks
    solution = step(bench, first, {"1": 6, "3": 4}, scores)
    assert training.counts(solution.masks) == {"1": 6, "3": 4}
    returned = sum(int((solution.masks[layer] & ~first[layer]).sum()) for layer in first)
    assert returned <= round(0.1 * 10)
    assert solution.certificate.checked


def test_equal_masks_are_refitted_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    trials, made = Trials(bench), []
    masks = training.by_share({"1": np.arange(12.0), "3": np.arange(8.0)}, 0.5).masks
    whole = training.refit
    monkeypatch.setattr(training, "refit", lambda *given, **named: made.append(0) or whole(*given, **named))
    refitted = trials.refitted(masks)
    assert trials.validation({layer: mask.copy() for layer, mask in masks.items()}) == refitted  # of the same images
    assert len(made) == 1
    assert refitted == 100 * training.evaluate(whole(bench.dense, masks, bench.images), bench.data.test).accuracy


def test_areas_end_at_80_percent_and_a_choice_behind_is_said() -> None:
    def found(choice: tuple[float, ...]) -> dict[str, object]:
        levels = {}
        for place, level in enumerate(LEVELS):
            rules = {rule: {"refitted": 80.0} for rule in SIMPLE} | {"choice": {"refitted": choice[place]}}
            levels[level] = {"rules": rules}
        return {"dense": 90.0, "levels": levels}

    ahead = Group("fc3", "mnist", "own", (found((80.0, 82.0, 10.0)), found((80.0, 84.0, 10.0))))
    behind = Group("fc4", "mnist", "own", (found((79.7, 80.1, 99.0)),))
    assert ahead.area("choice", "refitted") == pytest.approx((81.5, 0.5))
    assert "**81.50 (0.50)**" in "\n".join(area_table([ahead], "refitted"))
    rows = list(lead_table([ahead, behind]))
    assert rows[3].endswith("| -0.10 | -0.30 | **no** |")
    assert "accuracy at 80 %: +1.55 points in the mean over 2 cells (asked: +1.0, met), ahead in 2." in rows[-1]
