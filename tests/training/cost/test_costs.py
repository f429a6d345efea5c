from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.networks import Bypassed, Forked, Inverted, Residual, mixed
from training import build, load_checkpoint, save_checkpoint
from training.cost import LayerLatency, costs, estimated_seconds, layer_latencies, measure_latencies, measure_latency
from training.cost.latency import summarise_seconds, take_turns
from training.cost.layer_latency import what_lies_between
from training.digests import model_digest
from training.errors import DeviceError, FitSettingsError, SelectionError
from training.pruning import consumers
from training.pruning.compaction import compact

SHAPE = (1, 28, 28)


def test_half_a_lenet5_costs_less_in_every_count(tmp_path: Path) -> None:
    model, images = build("lenet5", input_shape=SHAPE, classes=10, seed=0), torch.zeros(1, *SHAPE)
    masks = {layer: np.arange(link.units) % 2 == 0 for layer, link in consumers(model, images).items()}
    compacted = compact(model, masks, images)
    before, after = costs(model, compacted, masks, images, seconds=0.01)
    assert (before.parameters, before.multiply_adds) == (44426, 281640)
    assert (after.parameters, after.multiply_adds) == (
        3 * 26 + 8 * 76 + 60 * 129 + 42 * 61 + 10 * 43,
        3 * 25 * 576 + 8 * 75 * 64 + 60 * 128 + 42 * 60 + 10 * 42,
    )
    save_checkpoint(compacted, tmp_path / "a.pt")
    # The file's name stands in it, so a few bytes differ.
    assert abs((tmp_path / "a.pt").stat().st_size - after.file_bytes) < 2000
    assert after.file_bytes < before.file_bytes
    load_checkpoint(compacted, tmp_path / "a.pt")
    for cost in (before, after):
        assert [latency.batch for latency in cost.latencies] == [1, 64]
        for latency in cost.latencies:
            assert 0 < latency.median <= latency.p95 < 60
            assert latency.repeats >= 5
            assert (latency.threads, latency.device) == (1, "cpu")


def test_the_models_take_turns_after_rounds_that_do_not_count() -> None:
    order = []

    def passing(name: str, seconds: float):
        order.append(name)
        return seconds

    taken = take_turns([lambda: passing("a", 1.0), lambda: passing("b", 2.0)], 0.0)
    assert order[:6] == ["a", "b"] * 3
    rounds = ["".join(order[start : start + 2]) for start in range(6, 16, 2)]
    assert len(order) == 16
    assert set(rounds) == {"ab", "ba"}
    assert taken == [[1.0] * 5, [2.0] * 5]


def test_the_record_holds_the_median_and_the_95th_percentile() -> None:
    latency = summarise_seconds([float(n) for n in range(100, 0, -1)], 64, 1, "cpu")
    assert (latency.median, latency.p95, latency.repeats) == (50.5, 95.0, 100)


def test_measuring_leaves_modes_weights_and_threads_as_they_were() -> None:
    model = mixed().train()
    before, threads = model_digest(model), torch.get_num_threads()
    latency = measure_latency(model, (1, 12, 12), 2, seconds=0.0, threads=2)
    assert (latency.batch, latency.threads) == (2, 2)
    assert model.training
    assert model_digest(model) == before
    assert torch.get_num_threads() == threads


def test_a_larger_network_takes_longer() -> None:
    small, large = nn.Linear(400, 10), nn.Sequential(*(nn.Linear(400, 400) for _ in range(40)))
    fast, slow = measure_latencies([small, large], (400,), 64, seconds=0.05)
    assert fast.median < slow.median


def test_what_cannot_be_measured_is_refused() -> None:
    for batch, seconds in ((0, 1.0), (1, -1.0), (1, float("nan")), (1, float("inf"))):
        with pytest.raises(FitSettingsError, match=f"batch={batch}"):
            measure_latency(mixed(), (1, 12, 12), batch, seconds=seconds)
    with pytest.raises(FitSettingsError, match="threads=0"):
        measure_latency(mixed(), (1, 12, 12), 1, threads=0)
    with pytest.raises(DeviceError, match="unknown"):
        measure_latency(mixed(), (1, 12, 12), 1, device="gpu")


def rows_of(tables: tuple[LayerLatency, ...]) -> list[tuple[str | None, str | None, str | None, tuple[int, ...]]]:
    return [(table.layer, table.producer, table.consumer, table.seconds.shape) for table in tables]


def test_a_chain_has_one_table_for_each_layer_and_one_for_what_lies_behind_it() -> None:
    model, images = build("lenet5", input_shape=SHAPE, classes=10, seed=0), torch.zeros(1, *SHAPE)
    widths = {"conv1": [2, 6], "conv2": [4, 8, 16], "fc1": [30, 60, 120]}
    tables = layer_latencies(model, images, widths, batch=2, seconds=0.0)
    assert rows_of(tables) == [
        ("conv1", None, "conv1", (1, 2)),
        ("conv2", "conv1", "conv2", (2, 3)),
        ("fc1", "conv2", "fc1", (3, 3)),
        ("fc2", "fc1", None, (3, 1)),
        ("output", None, None, (1, 1)),
        (None, None, None, (1, 1)),
        (None, None, "conv1", (1, 2)),
        (None, None, "conv2", (1, 3)),
        (None, None, "fc1", (1, 3)),
    ]
    assert all((table.seconds > 0).all() for table in tables if table.layer)
    # The largest widths are what the constant was measured with.
    assert [table.seconds[0, -1] for table in tables[-3:]] == [0.0, 0.0, 0.0]


def test_a_reader_of_several_has_a_table_for_each_and_one_for_the_rest() -> None:
    images = torch.zeros(1, 1, 12, 12)
    tables = layer_latencies(Forked(), images, {"left": [1, 3], "after": [2]}, batch=2, seconds=0.0)
    found = rows_of(tables)
    assert [row for row in found if row[0] == "after"] == [
        ("after", "left", "after", (2, 1)),
        ("after", None, "after", (1, 1)),
    ]
    assert [row for row in found if row[0] == "output"] == [
        ("output", "after", None, (1, 1)),
        ("output", None, None, (1, 1)),
    ]
    bypassed = layer_latencies(Bypassed(), torch.zeros(1, 1, 2, 2), {"first": [1, 2], "second": [3]}, seconds=0.0)
    assert rows_of(bypassed)[:3] == [
        ("first", None, "first", (1, 2)),
        ("second", "first", "second", (2, 1)),
        ("output", None, None, (1, 1)),
    ]


def test_all_layers_of_a_group_are_measured_at_its_widths() -> None:
    residual = layer_latencies(Residual(), torch.zeros(1, 1, 2, 2), {"first": [1, 2]}, seconds=0.0)
    assert rows_of(residual)[:3] == [
        ("first", None, "first", (1, 2)),
        ("second", "first", "first", (2, 2)),
        ("output", "first", None, (2, 1)),
    ]
    inverted = layer_latencies(Inverted(), torch.zeros(1, 1, 12, 12), {"first_wide": [1, 2, 4]}, seconds=0.0)
    assert ("first_deep", "first_wide", None, (3, 1)) in rows_of(inverted)


def test_a_linear_on_tokens_is_measured_on_all_of_them() -> None:
    widths = {"1": [1, 3, 6]}
    tokens = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 6), nn.GELU(), nn.Linear(6, 2), nn.Flatten(), nn.Linear(14, 3))
    tables = layer_latencies(tokens, torch.zeros(1, 7, 4), widths, batch=2, seconds=0.0)
    assert rows_of(tables)[:4] == [
        ("0", None, None, (1, 1)),
        ("1", None, "1", (1, 3)),
        ("3", "1", None, (3, 1)),
        ("5", None, None, (1, 1)),
    ]


def test_grouped_layers_are_measured_at_widths_that_their_groups_cannot_share() -> None:
    images = torch.zeros(1, 1, 12, 12)
    tables = layer_latencies(mixed(), images, {"0": [1, 3, 6], "4": [1, 3, 8]}, batch=2, seconds=0.0)
    assert [row[3] for row in rows_of(tables) if row[0] == "4"] == [(3, 3)]


def test_the_tables_add_up_entry_by_entry() -> None:
    tables = [
        LayerLatency("a", None, "a", np.array([[1.0, 2.0]])),
        LayerLatency("b", "a", "b", np.array([[10.0, 20.0, 30.0], [40.0, 50.0, 60.0]])),
        LayerLatency("c", "b", None, np.array([[100.0], [200.0], [300.0]])),
        LayerLatency(None, None, None, np.array([[1000.0]])),
    ]
    assert estimated_seconds(tables, {"a": 1, "b": 2}) == 2.0 + 60.0 + 300.0 + 1000.0
    assert estimated_seconds(tables, {"a": 0, "b": 1}) == 1.0 + 20.0 + 200.0 + 1000.0


def test_what_lies_between_makes_the_sum_the_measured_latency_where_one_layer_is_smaller() -> None:
    widths = {"a": [1, 4], "b": [6, 2, 3]}
    tables = [
        LayerLatency("a", None, "a", np.array([[1.0, 2.0]])),
        LayerLatency("b", "a", "b", np.array([[10.0, 20.0, 30.0], [40.0, 50.0, 60.0]])),
    ]
    whole = [[100.0], [55.0, 101.0], [99.0, 70.0, 80.0]]
    every = [*tables, *what_lies_between(tables, widths, whole)]
    assert estimated_seconds(every, {"a": 1, "b": 0}) == 100.0
    assert estimated_seconds(every, {"a": 0, "b": 0}) == 55.0
    assert estimated_seconds(every, {"a": 1, "b": 1}) == 70.0
    assert estimated_seconds(every, {"a": 1, "b": 2}) == 80.0


def test_a_small_layer_is_faster_than_a_large_one() -> None:
    model = nn.Sequential(nn.Linear(900, 900), nn.ReLU(), nn.Linear(900, 900), nn.ReLU(), nn.Linear(900, 2))
    tables = layer_latencies(model, torch.zeros(1, 900), {"0": [9, 900], "2": [9, 900]}, batch=128)
    [table] = [table for table in tables if table.layer == "2"]
    assert table.seconds[1, 1] > table.seconds[0, 0]


def test_widths_out_of_range_are_refused() -> None:
    for widths in ([], [0], [7]):
        with pytest.raises(SelectionError, match="widths of '0' are"):
            layer_latencies(mixed(), torch.zeros(1, 1, 12, 12), {"0": widths})
