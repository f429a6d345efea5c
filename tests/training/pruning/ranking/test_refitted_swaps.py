"""Swaps judged after refit: losses are those of a least-squares fit, no single swap left lowers them."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from training.errors import FitSettingsError, MaskError, RefitError, SelectionError
from training.pruning import by_share, consumers
from training.pruning.masks import Masks
from training.pruning.ranking import RefittedLoss, measure_readings, search_refitted_swaps
from training.pruning.ranking.readings import (
    DAMPING,
    LEAST_WEIGHT,
    answer_sensitivity,
    drop,
    readings_of,
    take_back,
)
from training.pruning.refit import passes_over

IMAGES = torch.rand(80, 1, 8, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def network_of(*, groups: int = 1) -> nn.Module:
    torch.manual_seed(3)
    layers = (nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 2, groups=groups), nn.ReLU(), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(100, 8), nn.ReLU(), nn.Linear(8, 3)).double().eval()


def masks_of(seed: int) -> Masks:
    drawn = np.random.default_rng(seed)
    return by_share({"0": drawn.random(6), "2": drawn.random(4), "5": drawn.random(8)}, 0.5).masks


def loss_of(network: nn.Module) -> RefittedLoss:
    return measure_readings(network, ("0", "2", "5"), IMAGES)


def test_the_loss_is_that_of_a_weighted_least_squares_fit() -> None:
    network, masks = network_of(), masks_of(0)
    sensitivity = answer_sensitivity(network, ["7"], IMAGES)["7"]
    least = LEAST_WEIGHT * sensitivity.diagonal().mean() * torch.eye(3, dtype=torch.float64)
    root = torch.linalg.cholesky(sensitivity + least).mT
    with torch.no_grad():
        z, y = network[:7](IMAGES), network(IMAGES)
    z, y = z - z.mean(0), (y - y.mean(0)) @ root.mT
    kept, w = torch.from_numpy(masks["5"]), root @ network[7].weight.detach()
    ridge = DAMPING * z.square().sum(0).mean()
    # The ridge as further rows of the least-squares problem.
    rows = torch.cat([z, ridge.sqrt() * torch.eye(8, dtype=z.dtype)])
    aims = torch.cat([y, ridge.sqrt() * w.mT])
    left = torch.linalg.lstsq(rows[:, kept], aims).solution
    error = (aims - rows[:, kept] @ left).square().sum()
    assert loss_of(network).of("5", masks["5"]) == pytest.approx(float(error / aims.square().sum()), rel=1e-6)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_block_that_goes_and_comes_back_leaves_everything_as_it_was(groups: int) -> None:
    network = network_of(groups=groups)
    for reading in readings_of(passes_over(network, IMAGES), consumers(network, IMAGES[:1], ["0"])["0"]):
        before = reading.copied()
        units = list(reading.columns)
        for unit in units[:2]:
            drop(reading, reading.columns[unit])
        for unit in units[:2]:
            take_back(reading, reading.columns[unit])
        torch.testing.assert_close(reading.weight, before.weight, rtol=1e-7, atol=1e-9)
        scale = float(before.inverse.abs().max())
        torch.testing.assert_close(reading.inverse / scale, before.inverse / scale, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("seed", "groups"), [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2)])
def test_no_exchange_of_two_units_is_left_that_lowers_the_loss(seed: int, groups: int) -> None:
    loss, masks = loss_of(network_of(groups=groups)), masks_of(seed)
    found = search_refitted_swaps(loss, masks, tries=1000)
    assert found.loss_after <= found.loss_before
    assert sum(found.swaps.values()) > 0 or found.loss_after == found.loss_before
    for layer, mask in found.masks.items():
        assert mask.sum() == masks[layer].sum()
        here = loss.of(layer, mask)
        for back, gone in product(np.flatnonzero(~mask), np.flatnonzero(mask)):
            other = mask.copy()
            other[back], other[gone] = True, False
            assert loss.of(layer, other) >= here - 1e-7


def test_the_masks_that_were_given_and_the_layers_left_alone_stay() -> None:
    loss, masks = loss_of(network_of()), masks_of(1)
    before = {layer: mask.copy() for layer, mask in masks.items()}
    found = search_refitted_swaps(loss, masks, tries=100, leave_alone=["0", "5"])
    assert all(np.array_equal(masks[layer], mask) for layer, mask in before.items())
    assert np.array_equal(found.masks["0"], masks["0"])
    assert np.array_equal(found.masks["5"], masks["5"])
    again = search_refitted_swaps(loss, masks, tries=100, leave_alone=["0", "5"])
    assert np.array_equal(again.masks["2"], found.masks["2"])
    assert found.measure == "squared error after refit"
    assert search_refitted_swaps(loss, masks, tries=0).evaluated == 0


def test_what_does_not_fit_is_refused_in_one_line() -> None:
    network, masks = network_of(), masks_of(0)
    loss = measure_readings(network, ["0"], IMAGES)
    with pytest.raises(MaskError, match="layer '2' was not measured"):
        search_refitted_swaps(loss, masks)
    with pytest.raises(MaskError, match="no masks"):
        search_refitted_swaps(loss, {})
    with pytest.raises(MaskError, match="removes all 6 units"):
        search_refitted_swaps(loss, {"0": np.zeros(6, dtype=bool)})
    with pytest.raises(FitSettingsError, match="tries=-1"):
        search_refitted_swaps(loss, {"0": masks["0"]}, tries=-1)
    with pytest.raises(SelectionError, match="layer '9' to leave alone"):
        search_refitted_swaps(loss, {"0": masks["0"]}, leave_alone=["9"])
    with pytest.raises(RefitError, match="images is empty"):
        measure_readings(network, ["0"], IMAGES[:0])
    broken = IMAGES.clone()
    broken[3, 0, 2, 2] = float("nan")
    with pytest.raises(RefitError, match="layer '2' reads or emits NaN"):
        measure_readings(network, ["0"], broken)
