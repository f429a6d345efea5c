"""Batches, rates and steps."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from training.data.augmentation import flip_crop
from training.data.splits import Split
from training.errors import FitSettingsError
from training.fitting.fit_settings import FitSettings
from training.fitting.optimisation import (
    LOOKED_AT_EVERY,
    Feed,
    batches,
    check_batches,
    descend,
    make_feed,
    make_optimiser,
    rate_of,
)


def toy(images: int = 40, side: int = 6) -> Split:
    generator = torch.Generator().manual_seed(images)
    return Split(torch.rand(images, 1, side, side, generator=generator), torch.arange(images))


def fed(settings: FitSettings, images: int = 40) -> Feed:
    return make_feed(toy(images), settings, torch.device("cpu"), torch.float32)


@given(st.integers(1, 200), st.integers(1, 50), st.integers(0, 1000))
def test_batches_are_a_permutation_without_a_lone_last_image(images: int, size: int, seed: int) -> None:
    parts = list(batches(images, size, torch.Generator().manual_seed(seed)))
    assert sorted(torch.cat(parts).tolist()) == list(range(images))
    if size > 1 and images > 1:
        assert min(len(part) for part in parts) > 1
    assert all(len(earlier) == size for earlier, _ in pairwise(parts))


@given(st.integers(1, 12), st.integers(2, 70), st.integers(2, 20))
def test_a_cosine_falls_from_the_learning_rate_over_all_steps_of_the_fit(epochs: int, images: int, size: int) -> None:
    settings = FitSettings(epochs=epochs, batch_size=size, learning_rate=0.3, rate_schedule="cosine")
    feed = fed(settings, images)
    rates = [batch.rate for index in range(1, epochs + 1) for batch in feed.epoch(index)]
    expected = [0.15 * (1 + math.cos(math.pi * step / len(rates))) for step in range(len(rates))]
    assert rates == pytest.approx(expected)
    assert rates[0] == 0.3
    assert all(later < earlier for earlier, later in pairwise(rates))


def test_a_constant_rate_is_the_learning_rate_itself() -> None:
    assert {rate_of(step, 7, FitSettings(learning_rate=0.1)) for step in range(7)} == {0.1}


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_a_step_goes_as_far_as_its_rate(optimiser: str) -> None:
    settings = FitSettings(optimiser=optimiser, learning_rate=1.0)
    far = []
    for rate in (0.25, 0.5):
        weight = nn.Parameter(torch.tensor([3.0]))
        weight.grad = torch.tensor([100.0])  # of an earlier loss, and no part of this step
        descend(make_optimiser([weight], settings), 2 * weight.sum(), rate)
        far.append(3.0 - weight.item())
    assert far[1] == pytest.approx(2 * far[0])
    assert far[0] == pytest.approx(0.25 * (1.0 if optimiser == "adam" else 2.0))


def test_every_image_is_fed_once_with_its_label_and_moved_by_draws_that_leave_the_order_alone() -> None:
    plain, moved = (fed(FitSettings(batch_size=7, augment=augment)) for augment in ("none", "flip_crop"))
    known = toy()
    for index in (1, 2):
        labels = []
        for seen, other in zip(plain.epoch(index), moved.epoch(index), strict=True):
            assert torch.equal(seen.labels, other.labels)
            assert torch.equal(seen.images, known.images[seen.labels])
            assert not torch.equal(seen.images, other.images)
            labels += seen.labels.tolist()
        assert sorted(labels) == list(range(40))


def test_an_epoch_moves_its_images_anew_and_the_seed_decides_how() -> None:
    settings = FitSettings(batch_size=40, augment="flip_crop")
    sorted_images = []
    feeds = [fed(settings), fed(settings), fed(FitSettings(batch_size=40, augment="flip_crop", seed=1))]
    for feed in feeds:
        (first,), (second,) = list(feed.epoch(1)), list(feed.epoch(2))
        sorted_images.append([batch.images[batch.labels.argsort()] for batch in (first, second)])
    assert all(torch.equal(one, two) for one, two in zip(sorted_images[0], sorted_images[1], strict=True))
    assert not torch.equal(sorted_images[0][0], sorted_images[0][1])
    assert not torch.equal(sorted_images[0][0], sorted_images[2][0])


def test_an_image_is_moved_by_the_move_drawn_for_it() -> None:
    feed, twin = (fed(FitSettings(batch_size=9, augment="flip_crop")) for _ in range(2))
    moves = torch.cat([torch.randint(0, 2, (40, 1), generator=twin.moving),
                       torch.randint(-4, 5, (40, 2), generator=twin.moving)], 1)  # fmt: skip
    for batch in feed.epoch(1):
        assert torch.equal(batch.images, flip_crop(toy().images[batch.labels], moves[batch.labels]))


def test_losses_are_looked_at_now_and_then_and_at_the_end_of_an_epoch() -> None:
    flags = [batch.looked_at for batch in fed(FitSettings(batch_size=2), images=100).epoch(1)]
    assert [number for number, flag in enumerate(flags, start=1) if flag] == [LOOKED_AT_EVERY, 50]


def test_batches_from_which_nothing_can_be_learnt_are_refused() -> None:
    norm = nn.Sequential(nn.BatchNorm2d(1))
    check_batches([nn.ReLU()], toy(), FitSettings(batch_size=1))
    with pytest.raises(FitSettingsError, match="a batch of one image is too small"):
        check_batches([nn.ReLU(), norm], toy(), FitSettings(batch_size=1))
    with pytest.raises(FitSettingsError, match="a batch of one image is too small"):
        check_batches([norm], toy(images=1), FitSettings())
    with pytest.raises(FitSettingsError, match=r"images of shape \[1, 1, 1\]"):
        check_batches([norm], toy(side=1), FitSettings(augment="flip_crop"))
