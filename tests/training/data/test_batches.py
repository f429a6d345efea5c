"""Batches of images, wherever they come from: the streaming verbs make of them what they make of a tensor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from training import DataError, FitSettingsError, Images, predict, recalibrate, refit, search_swaps

IMAGES = torch.rand(23, 1, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(23) % 3
PAIRS = TensorDataset(IMAGES, LABELS)
MASKS = {"0": np.array([True, False, True, True]), "4": np.arange(8) > 2}


class Anew:
    """Batches without labels, made anew each time they are asked for; `read` counts how often."""

    def __init__(self) -> None:
        self.read = 0

    def __iter__(self) -> Iterator[Tensor]:
        self.read += 1
        yield from torch.split(IMAGES, 5)


LOADERS = {"loader": DataLoader(PAIRS, batch_size=4), "data set": PAIRS, "batches": Anew(), "list": [(IMAGES, LABELS)]}


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 8),
        nn.ReLU(),
        nn.Linear(8, 3),
    )
    return nn.Sequential(*layers).eval()


@pytest.mark.parametrize("kind", LOADERS)
def test_logits_and_the_refit_are_those_of_the_tensor(model: nn.Module, kind: str) -> None:
    torch.testing.assert_close(predict(model, LOADERS[kind]), predict(model, IMAGES))
    torch.testing.assert_close(refit(model, MASKS, LOADERS[kind])(IMAGES), refit(model, MASKS, IMAGES)(IMAGES))


def test_a_shuffled_loader_holds_its_images_back_in_one_pass(model: nn.Module) -> None:
    shuffled = DataLoader(PAIRS, batch_size=4, shuffle=True, generator=torch.Generator().manual_seed(1))
    dense, fitted = model(IMAGES), refit(model, MASKS, shuffled, ridge=1e-3)(IMAGES)
    torch.testing.assert_close(fitted, refit(model, MASKS, IMAGES, ridge=1e-3)(IMAGES))
    assert fitted.shape == dense.shape


@pytest.mark.parametrize("count", [1, 2, 4])
def test_few_images_are_held_back_alike(model: nn.Module, count: int) -> None:
    few = [IMAGES[:1], IMAGES[1:count]] if count > 1 else [IMAGES[:1]]
    torch.testing.assert_close(refit(model, MASKS, few)(IMAGES), refit(model, MASKS, IMAGES[:count])(IMAGES))


def test_statistics_are_the_mean_over_the_batches_as_they_come(model: nn.Module) -> None:
    found = recalibrate(model, DataLoader(PAIRS, batch_size=12))
    torch.testing.assert_close(found(IMAGES), recalibrate(model, IMAGES, batch_size=12)(IMAGES))
    with pytest.raises(FitSettingsError, match="a batch of 1 image"):
        recalibrate(model, DataLoader(PAIRS, batch_size=11))


def test_what_cannot_be_streamed_is_gathered(model: nn.Module) -> None:
    found = search_swaps(model, MASKS, DataLoader(PAIRS, batch_size=4), None, tries=3)
    expected = search_swaps(model, MASKS, IMAGES, LABELS, tries=3)
    assert all(np.array_equal(found.masks[layer], expected.masks[layer]) for layer in MASKS)
    with pytest.raises(DataError, match="labels is missing"):
        search_swaps(model, MASKS, IMAGES, None)
    with pytest.raises(DataError, match="no batches of"):
        search_swaps(model, MASKS, [IMAGES], None)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (iter(LOADERS["loader"]), "can be read only once: give a tensor, a DataLoader"),
        (3, "images is int"),
        ([], "hold no image"),
        ([LABELS], r"a batch is of shape \(23,\), no images"),
        ([("a", "b")], "a batch is a str"),
    ],
)
def test_what_holds_no_images_is_refused_in_one_line(model: nn.Module, data: Images | Any, says: str) -> None:
    for verb in (lambda: predict(model, data), lambda: refit(model, MASKS, data), lambda: recalibrate(model, data)):
        with pytest.raises(DataError, match=says) as refusal:
            verb()
        assert "\n" not in str(refusal.value)
