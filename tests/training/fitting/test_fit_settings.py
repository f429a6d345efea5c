"""Training settings and what they come to, in a network that is trained whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.networks import drawn_masks, mixed
from training import FitSettings, Split, consumers, fit, model_digest, removed_entries
from training.errors import FitSettingsError


def toy(images: int = 40, side: int = 12) -> Split:
    generator = torch.Generator().manual_seed(0)
    return Split(torch.rand(images, 1, side, side, generator=generator), torch.arange(images) % 3)


SETTINGS = [
    {"augment": "flip_crop"},
    {"rate_schedule": "cosine"},
    {"precision": "mixed"},
    {"augment": "flip_crop", "rate_schedule": "cosine", "precision": "mixed"},
]


@pytest.mark.parametrize("changed", SETTINGS)
def test_each_setting_trains_to_other_bits_and_to_the_same_from_the_same_seed(changed: dict[str, str]) -> None:
    model, data, state = mixed(), toy(), torch.random.get_rng_state()
    first, again, other, plain = (
        model_digest(fit(model, data, data, settings).model)
        for settings in (
            FitSettings(epochs=2, batch_size=8, **changed),
            FitSettings(epochs=2, batch_size=8, **changed),
            FitSettings(epochs=2, batch_size=8, seed=1, **changed),
            FitSettings(epochs=2, batch_size=8),
        )
    )
    assert first == again
    assert len({first, other, plain}) == 3
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_is_not_asked_for_changes_nothing() -> None:
    """The loop as it was before there were these settings, step by step."""
    data = toy()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 9), nn.ReLU(), nn.Linear(9, 3))
    fitted = fit(model, data, data, FitSettings(epochs=2, batch_size=8, learning_rate=0.01)).model
    optimiser, order = torch.optim.Adam(model.parameters(), lr=0.01), torch.Generator().manual_seed(0)
    for _ in range(2):
        for rows in torch.split(torch.randperm(40, generator=order), 8):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(data.images[rows]), data.labels[rows]).backward()
            optimiser.step()
    assert model_digest(fitted) == model_digest(model)


def test_a_rate_that_falls_is_the_rate_of_every_step() -> None:
    """Of one weight whose gradient never changes: plain descent goes as far as all rates together."""

    class Slope(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            # A loss of ln 2 whatever the images, with a slope of 1/2.
            logits = torch.stack([self.weight - self.weight.detach(), torch.zeros(())])
            return logits.expand(len(images), 2)

    data = Split(toy().images, torch.ones(40, dtype=torch.int64))
    ends = []
    for schedule in ("constant", "cosine"):
        how = FitSettings(
            epochs=3, batch_size=10, learning_rate=0.1, optimiser="sgd", momentum=0.0, rate_schedule=schedule
        )
        ends.append(fit(Slope(), data, data, how).model.weight.item())
    rates = 0.1 * (1 + np.cos(np.pi * np.arange(12) / 12)) / 2
    assert ends == pytest.approx([-0.5 * 12 * 0.1, -0.5 * rates.sum()], abs=1e-6)


def test_mixed_training_learns_in_weights_of_float32(digits) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 30), nn.BatchNorm1d(30), nn.ReLU(), nn.Linear(30, 10))
    seen: list[torch.dtype] = []
    # A copy of the model is trained, hooks included.
    model[1].register_forward_hook(lambda module, _, made: seen.append(made.dtype) if module.training else None)
    result = fit(model, digits.train, digits.validation, FitSettings(epochs=4, learning_rate=0.01, precision="mixed"))
    assert set(seen) == {torch.bfloat16}
    assert {value.dtype for value in result.model.state_dict().values()} == {torch.float32, torch.int64}
    assert result.epochs[-1].train_loss < 0.5 * result.epochs[0].train_loss
    assert result.epochs[-1].validation_accuracy > 0.8


@pytest.mark.parametrize("changed", SETTINGS)
def test_removed_units_stay_at_exactly_0_whatever_the_settings(changed: dict[str, str]) -> None:
    data, model = toy(), mixed()
    masks = drawn_masks(model, list(consumers(model, data.images)), seed=1)
    settings = FitSettings(epochs=2, batch_size=8, weight_decay=0.1, learning_rate=0.01, **changed)
    state = fit(model, data, data, settings, masks=masks).model.state_dict()
    zeros = removed_entries(model, masks, data.images)
    assert zeros
    for key, removed in zeros.items():
        assert removed.any()
        assert not state[key][removed].any()


def test_images_that_cannot_be_augmented_are_refused_before_any_work() -> None:
    data = toy(side=1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 3))
    with pytest.raises(
        FitSettingsError, match=r"augment=flip_crop cannot mirror and shift images of shape \[1, 1, 1\]"
    ):
        fit(model, data, data, FitSettings(augment="flip_crop"), callbacks=[lambda _: pytest.fail("trained")])
