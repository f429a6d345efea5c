from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.training.networks import (
    Bypassed,
    Forked,
    Functional,
    Inverted,
    Residual,
    Series,
    chains,
    compact_by_hand,
    drawn_masks,
    example,
    mixed,
)
from training import build
from training.errors import MaskError
from training.pruning import consumers, removal


def parameters(model: nn.Module) -> int:
    return sum(value.numel() for value in model.parameters())


def multiply_adds(model: nn.Module, images: torch.Tensor) -> int:
    """torch's own count: two operations for each multiply-add."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(images[:1])
    return counter.get_total_flops() // 2


@settings(max_examples=40, deadline=None)
@given(chains(), st.integers(0, 1000), st.sampled_from([0.2, 0.5, 0.8]))
def test_the_true_account_is_that_of_the_network_compacted_by_hand(
    model: nn.Sequential, seed: int, keep: float
) -> None:
    images = example(model)
    masks = drawn_masks(model, list(consumers(model, images)), seed, keep)
    compact, account = compact_by_hand(model, masks), removal(model, masks, images)
    assert account.parameters_before == parameters(model)
    assert account.parameters_after == parameters(compact)
    assert account.multiply_adds_before == multiply_adds(model, images)
    assert account.multiply_adds_after == multiply_adds(compact, images)
    assert account.parameters_after == sum(row.parameters_after for row in account.layers)


def test_lenet5_by_hand() -> None:
    model = build("lenet5", input_shape=(1, 28, 28), classes=10, seed=0)
    masks = {"conv2": np.arange(16) < 12, "fc2": np.arange(84) < 80}
    account = removal(model, masks, torch.zeros(1, 1, 28, 28))
    assert (account.units_total, account.units_removed) == (100, 8)
    # conv2 loses 4 maps, fc1 their 4 * 16 columns, fc2 4 rows, the output their 4 columns; biases with the rows.
    assert account.parameters_before - account.parameters_after == 4 * (150 + 1) + 120 * 64 + 4 * (120 + 1) + 40
    assert account.multiply_adds_before - account.multiply_adds_after == 4 * 150 * 64 + 120 * 64 + 4 * 120 + 40
    weights = 150 + 2400 + 30720 + 10080 + 840
    assert account.published_parameters_removed == pytest.approx((4 * 150 + 4 * 120) / weights)
    assert account.units_removed_share == pytest.approx(0.08)
    rows = {row.layer: row for row in account.layers}
    assert rows["fc1"].units_removed == 0
    assert rows["fc1"].parameters_after == 120 * (12 * 16 + 1)
    assert rows["conv1"].parameters_after == rows["conv1"].parameters_before == 156


def test_a_grouped_convolution_counts_group_by_group() -> None:
    model = mixed()
    masks = {"0": np.array([False, False, True, True, True, True]), "4": np.array([True] * 4 + [False] * 3 + [True])}
    rows = {row.layer: row for row in removal(model, masks, example(model)).layers}
    # Group one: 1 of 3 inputs, 4 of 4 outputs; group two: 3 of 3 inputs, 1 of 4 outputs.
    assert rows["4"].parameters_after == 9 * (1 * 4 + 3 * 1) + 5
    assert rows["1"].parameters_after == 2 * 4
    # BatchNorm without affine has no parameters and no row.
    assert "5" not in rows


def test_two_readers_both_lose_their_columns() -> None:
    model = Functional()
    rows = {
        row.layer: row
        for row in removal(model, {"first": np.array([True, False, True, True])}, torch.zeros(1, 1, 12, 12)).layers
    }
    assert rows["wide"].parameters_after == 3 * (3 * 9 + 1)
    assert rows["deep"].parameters_after == 2 * (3 * 9 + 1)


def test_concatenated_units_leave_from_where_they_lie() -> None:
    masks = {"left": np.array([True, False, True]), "right": np.array([False, True])}
    rows = {row.layer: row for row in removal(Forked(), masks, torch.zeros(1, 1, 12, 12)).layers}
    assert rows["left"].parameters_after == 2 * (4 + 1)
    assert rows["right"].parameters_after == 2 + 1
    assert rows["norm"].parameters_after == 2 * 3
    assert rows["norm"].units_removed == 2
    assert rows["after"].parameters_after == 3 * (3 + 1)
    assert rows["output"].parameters_after == 3 * (100 + 1)
    assert rows["output"].multiply_adds_after == 3 * 100


def test_units_that_end_in_a_sum_go_with_what_feeds_and_reads_them() -> None:
    masks = {"first": np.arange(5) > 2, "second": np.array([False, False, True, False])}
    rows = {row.layer: row for row in removal(Bypassed(), masks, torch.zeros(1, 1, 2, 2)).layers}
    assert rows["first"].parameters_after == 2 * (4 + 1)
    assert rows["second"].parameters_after == 1 * (2 + 1)
    assert rows["output"].parameters_after == rows["output"].parameters_before == 2 * (4 + 1)


def test_units_that_a_sum_ties_go_from_every_layer_that_makes_them() -> None:
    account = removal(Residual(), {"first": np.array([True, False, True])}, torch.zeros(1, 1, 2, 2))
    rows = {row.layer: row for row in account.layers}
    assert rows["first"].parameters_after == 2 * (4 + 1)
    assert rows["second"].parameters_after == 2 * (2 + 1)
    assert rows["output"].parameters_after == 2 * (2 + 1)
    assert (account.units_total, account.units_removed) == (3, 1)
    assert account.published_parameters_removed == (4 + 3) / (12 + 9 + 6)


def test_a_depthwise_convolution_loses_the_channels_that_it_carries() -> None:
    model = Inverted()
    rows = {row.layer: row for row in removal(model, {"first_wide": np.arange(5) > 1}, example(model)).layers}
    assert rows["first_deep"].parameters_after == 3 * (9 + 1)
    assert rows["first_deep"].multiply_adds_after == 3 * 9 * 36
    assert rows["first_norm"].parameters_after == 2 * 3
    assert rows["first_narrow"].parameters_after == 3 * 3


def test_a_series_counts_its_places() -> None:
    rows = {row.layer: row for row in removal(Series(), {"first": np.arange(4) > 0}, torch.zeros(1, 2, 11)).layers}
    assert rows["first"].multiply_adds_before == 2 * 4 * 3 * 11
    assert rows["first"].multiply_adds_after == 2 * 3 * 3 * 11
    assert rows["second"].multiply_adds_after == (1 * 3 + 2 * 3) * 2 * 2


def test_no_masks_remove_nothing() -> None:
    account = removal(mixed(), {}, example(mixed()))
    assert account.units_total == 0
    assert account.units_removed_share == account.parameters_removed_share == account.multiply_adds_removed_share == 0.0
    assert account.published_parameters_removed == 0.0


def test_masks_that_do_not_fit_are_refused() -> None:
    with pytest.raises(MaskError, match="removes all 6 units"):
        removal(mixed(), {"0": np.zeros(6, dtype=bool)}, example(mixed()))
