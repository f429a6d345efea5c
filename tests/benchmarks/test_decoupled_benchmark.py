"""The arithmetic and the tables of the benchmark of scoring by block."""

from itertools import product

import numpy as np
import pytest
import torch

from benchmarks import decoupled_tables as tables
from benchmarks.decoupled import thinned
from training import Split

PROGRAM = {"block": "conv1", "cpu": 3.0, "status": "optimal", "checked": True, "gap": 1e-4, "rounds": 7, "columns": 64}
FOUND = {
    "cpu": 5.0,
    "peak": 3e9,
    "baseline": 1e9,
    "programs": [PROGRAM, PROGRAM | {"block": "conv2", "cpu": 1.5, "columns": 16}],
}


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_the_best_schedule_is_that_of_all_assignments_tried(workers: int, seed: int) -> None:
    seconds = np.random.default_rng(seed).exponential(size=7)
    tried = min(
        max(seconds[np.asarray(each) == worker].sum() for worker in range(workers))
        for each in product(range(workers), repeat=len(seconds))
    )
    assert tables.best_schedule(seconds.tolist(), workers) == pytest.approx(tried, rel=1e-5)


def test_the_best_schedule_may_lie_above_its_lower_bound() -> None:
    assert tables.best_schedule([2.0, 2.0, 2.0], 2) == pytest.approx(4.0)
    assert tables.lower_bound([2.0, 2.0, 2.0], 2) == pytest.approx(3.0)
    assert tables.best_schedule([5.0, 1.0, 1.0], 2) == tables.lower_bound([5.0, 1.0, 1.0], 2) == pytest.approx(5.0)
    assert tables.best_schedule([], 2) == 0.0


def test_efficiency_is_the_best_schedule_over_the_time_measured() -> None:
    one, two = ({"seconds": [2.0] * 4, "wall": wall, "load": "0, 0"} for wall in (8.0, 4.5))
    assert "| 88.9 % |" in tables.dask_row("a network", one, two, 2)
    assert cells(tables.dask_row("a network", one, two, 2))[-1] == "yes"
    assert cells(tables.dask_row("a network", one, two | {"wall": 5.0}, 2))[-1] == "**no**"


def test_a_size_is_met_where_all_is_optimal_checked_and_within_time_and_memory() -> None:
    def met(found: dict[str, object]) -> str:
        return cells(tables.size_row("a network", "linear", found, limits_memory=True))[-1]

    assert met(FOUND) == "yes"
    broken = ({"cpu": 901.0}, {"peak": 9e9}, {"programs": [PROGRAM | {"status": "time_limit"}]})
    assert [met(FOUND | each) for each in (*broken, {"programs": [PROGRAM | {"checked": False}]})] == ["**no**"] * 4
    assert met({}) == "**no**"
    assert len(cells(tables.size_row("a network", "linear", {}, limits_memory=True))) == len(tables.SIZE)


def test_a_size_shows_the_longest_program_and_the_columns_of_all() -> None:
    row = cells(tables.size_row("a network", "linear", FOUND, limits_memory=False))
    assert len(row) == len(tables.SIZE)
    assert "3 (conv1)" in row
    assert "80 (at most 64)" in row
    assert "2 optimal, all checked" in row


def test_correlations_are_of_ranks_and_a_layer_without_order_is_left_out_of_the_mean() -> None:
    one = {"conv1": [1.0, 2.0, 9.0], "conv2": [1.0, 2.0, 3.0], "conv3": [1.0, 1.0, 1.0]}
    other = {"conv1": [0.1, 0.2, 0.3], "conv2": [1.0, 3.0, 2.0], "conv3": [1.0, 2.0, 3.0]}
    found = tables.correlations(one, other)
    assert found["conv1"] == pytest.approx(1.0)
    assert found["conv2"] == pytest.approx(0.5)
    assert np.isnan(found["conv3"])
    assert tables.in_short(found) == "0.75 (conv2 0.50; 1 without order)"
    assert tables.by_layer(found) == "conv1 1.00, conv2 0.50, conv3 -"


def test_a_table_has_its_head_once() -> None:
    assert list(tables.printed(("a", "b"), iter(["| 1 | 2 |", "| 3 | 4 |"]))) == [
        "| a | b |\n|---|---|\n| 1 | 2 |",
        "| 3 | 4 |",
    ]


@pytest.mark.parametrize("order", ["class by class", "classes in turn"])
def test_fewer_images_are_of_all_classes_in_whatever_order_they_come(order: str) -> None:
    labels = torch.arange(10).repeat(20)
    labels = labels.sort().values if order == "class by class" else labels
    found = thinned(Split(labels.reshape(-1, 1, 1, 1) / 10, labels), 5)
    assert found.labels.bincount().tolist() == [4] * 10
    assert torch.equal(found.images.flatten(), found.labels / 10)
