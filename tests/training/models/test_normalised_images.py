"""Normalisation inside a network: the same logits, for pixels; scored, pruned and compacted as any other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from formulation import lower
from training import build, compact, normalise_images, prune
from training.errors import ModelError
from training.models import NormalisedImages

IMAGES = torch.rand(5, 3, 28, 28, generator=torch.Generator().manual_seed(0))
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def made() -> NormalisedImages:
    return normalise_images(build("lenet5", input_shape=(3, 28, 28), classes=4, seed=0), MEAN, STD, 3).eval()


def test_pixels_are_normalised_by_channel_and_the_layers_keep_their_names_behind_one_word() -> None:
    network = made()
    given = (IMAGES - torch.tensor(MEAN).reshape(3, 1, 1)) / torch.tensor(STD).reshape(3, 1, 1)
    torch.testing.assert_close(network(IMAGES), network.network(given))
    assert set(network.state_dict()) == {f"network.{name}" for name in network.network.state_dict()}
    units = lower(network, IMAGES).units
    assert list(units) == ["network.conv1", "network.conv2", "network.fc1", "network.fc2"]
    masks = {"network.conv1": np.arange(6) != 2}
    torch.testing.assert_close(compact(network, masks, IMAGES)(IMAGES), prune(network, masks, IMAGES)(IMAGES))


def test_one_number_is_that_of_every_channel() -> None:
    network = build("fc2", input_shape=(3, 28, 28), classes=4, seed=0)
    torch.testing.assert_close(normalise_images(network, [0.5], [0.25], 3)(IMAGES), network((IMAGES - 0.5) / 0.25))


@pytest.mark.parametrize(
    ("mean", "std", "says"),
    [
        ((0.1, 0.2), (1.0,), "mean has 2 numbers and the images 3 channels"),
        ((0.1,), (1.0,) * 4, "std has 4 numbers"),
        ((0.1,), (0.0,), "std=0: give numbers above 0"),
        ((0.1,), (float("nan"),), "std=nan"),
        ((float("inf"),), (1.0,), "mean=inf: give finite numbers"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(mean: tuple[float, ...], std: tuple[float, ...], says: str) -> None:
    with pytest.raises(ModelError, match=says):
        normalise_images(torch.nn.Identity(), mean, std, 3)
