"""Removing units from a network in the flows' words."""

import numpy as np
import pytest
import torch
from torch import nn

from flows.settings import Settings
from flows.stages.remove import exchange_of, rework_of, without
from flows.translation import dataset_of
from training import Dataset, ScoringSet

SETTINGS = Settings(image_size=8)
MASKS = {"0": np.array([True, False, True]), "4": np.array([True, True, False, True])}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return dataset_of(SETTINGS)


@pytest.fixture
def normed() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(3 * 36, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 10)),
    ).eval()


def test_statistics_are_measured_anew_without_the_removed_units(normed: nn.Module, dataset: Dataset) -> None:
    settings = SETTINGS.model_copy(update={"recalibrate": True})
    plain, measured = (without(each, normed, MASKS, dataset) for each in (SETTINGS, settings))
    images = dataset.train.images
    with torch.no_grad():
        before, arriving = plain[:5](images), measured[:5](images)
        emitted = measured[:3](images)[:, 1], measured[:7](images)[:, 2]
    assert not torch.allclose(before, arriving)
    # Batches are normalised by themselves while they are measured, so the means only nearly agree.
    torch.testing.assert_close(measured[5].running_mean[[0, 1, 3]], arriving.mean(0)[[0, 1, 3]], rtol=1e-2, atol=1e-2)
    assert not any(outputs.any() for outputs in emitted)


def test_nothing_follows_a_removal_unless_it_is_asked_for(dataset: Dataset) -> None:
    images = ScoringSet(dataset.validation.images[:4], dataset.validation.labels[:4], torch.arange(4))
    assert rework_of(SETTINGS, dataset) is None
    assert exchange_of(SETTINGS, images) is None


def test_exchanging_lowers_the_loss_and_keeps_the_counts(normed: nn.Module, dataset: Dataset) -> None:
    images = ScoringSet(dataset.validation.images[:60], dataset.validation.labels[:60], torch.arange(60))
    exchange = exchange_of(SETTINGS.model_copy(update={"exchange": 20}), images)
    assert exchange is not None
    found = exchange(normed, MASKS)
    assert found.loss_after <= found.loss_before
    assert {layer: mask.sum() for layer, mask in found.masks.items()} == {"0": 2, "4": 3}


@pytest.mark.parametrize(
    ("limits", "moves_across"),
    [({}, True), ({"leave_alone": "4"}, False), ({"floor": 2}, False), ({"round_to": 2}, False)],
)
def test_a_share_of_all_units_leaves_their_layers_free_unless_limits_speak_of_layers(
    normed: nn.Module, dataset: Dataset, limits: dict[str, object], moves_across: bool
) -> None:
    images = ScoringSet(dataset.validation.images[:60], dataset.validation.labels[:60], torch.arange(60))
    masks = {"0": np.array([False, False, True]), "4": np.array([True, True, True, True])}
    settings = SETTINGS.model_copy(update={"exchange": 40, "selection": "quantile", **limits})
    exchange = exchange_of(settings, images)
    assert exchange is not None
    kept = {layer: int(mask.sum()) for layer, mask in exchange(normed, masks).masks.items()}
    assert sum(kept.values()) == 5
    assert (kept != {"0": 1, "4": 4}) == moves_across
