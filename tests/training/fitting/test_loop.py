from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.networks import drawn_masks, mixed
from training import Dataset, build, load
from training.data.splits import Split
from training.digests import model_digest
from training.errors import DeviceError, FitSettingsError, LabelError, MaskError, ModelError, TrainingDiverged
from training.fitting.fit_settings import FitSettings
from training.fitting.loop import Epoch, evaluate, fit
from training.pruning import consumers, prune, removed_entries

DATA_ROOT = os.environ.get("DATA_ROOT")


def toy(images: int = 40, seed: int = 0) -> Split:
    generator = torch.Generator().manual_seed(seed)
    return Split(torch.rand(images, 1, 12, 12, generator=generator), torch.arange(images) % 3)


def test_training_learns_the_digits(digits: Dataset, trained: nn.Module) -> None:
    assert evaluate(trained, digits.test).accuracy > 0.85


def test_the_same_seed_gives_bit_identical_weights_and_another_seed_others(digits: Dataset) -> None:
    model = build("lenet5", input_shape=digits.input_shape, classes=10, seed=0)
    digests = [
        model_digest(fit(model, digits.train, digits.validation, FitSettings(epochs=1, seed=seed)).model)
        for seed in (0, 0, 1)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_dropout_follows_the_seed_and_the_global_generator_is_left_alone() -> None:
    state = torch.random.get_rng_state()
    model, data = mixed(), toy()
    torch.random.set_rng_state(state)
    first, again = (model_digest(fit(model, data, data, FitSettings(epochs=2)).model) for _ in range(2))
    assert first == again
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_early_copy_is_what_so_many_epochs_alone_give() -> None:
    model, data = mixed(), toy()
    masks = {"0": np.array([True, False, True, True, False, True])}
    kept = fit(model, data, data, FitSettings(epochs=3), early=2, masks=masks)
    alone = fit(model, data, data, FitSettings(epochs=2), masks=masks)
    assert kept.early is not None
    assert model_digest(kept.early) == model_digest(alone.model) != model_digest(kept.model)
    assert not kept.early.training
    assert alone.early is None


@pytest.mark.parametrize("early", [-1, 2])
def test_an_early_copy_of_no_epoch_of_the_training_is_refused(early: int) -> None:
    with pytest.raises(FitSettingsError, match=f"early={early} is out of range: use 0 to 1"):
        fit(mixed(), toy(), toy(), FitSettings(epochs=1), early=early)


def test_the_model_passed_in_is_not_touched() -> None:
    model, data = mixed().eval(), toy()
    before = model_digest(model)
    result = fit(model, data, data, FitSettings(epochs=1))
    assert model_digest(model) == before
    assert not model.training
    assert not result.model.training
    assert model_digest(result.model) != before


def test_no_epochs_give_a_copy() -> None:
    model, data = mixed(), toy()
    result = fit(model, data, data, FitSettings(epochs=0))
    assert result.epochs == ()
    assert model_digest(result.model) == model_digest(model)
    assert result.model is not model


def test_callbacks_see_every_epoch_in_order_with_its_figures() -> None:
    seen: list[Epoch] = []
    model, data = mixed(), toy()
    result = fit(model, data, data, FitSettings(epochs=3), callbacks=[seen.append])
    assert tuple(seen) == result.epochs
    assert [epoch.index for epoch in seen] == [1, 2, 3]
    last = evaluate(result.model, data)
    assert seen[-1].validation_loss == pytest.approx(last.loss)
    assert seen[-1].validation_accuracy == pytest.approx(last.accuracy)
    assert all(0.0 <= epoch.train_accuracy <= 1.0 and epoch.seconds > 0 for epoch in seen)


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_removed_units_stay_at_exactly_0_through_momentum_and_weight_decay(optimiser: str) -> None:
    data = toy()
    settings = FitSettings(epochs=2, batch_size=8, optimiser=optimiser, weight_decay=0.1, learning_rate=0.01)
    # Trained first, so that the weights to be removed are far from 0.
    model = fit(mixed(), data, data, settings).model
    masks = drawn_masks(model, list(consumers(model, data.images)), seed=1)
    zeros = removed_entries(model, masks, data.images)
    result = fit(model, data, data, settings, masks=masks)
    state = result.model.state_dict()
    assert {key.rpartition(".")[2] for key in zeros} == {"weight", "bias", "running_mean"}
    for key, removed in zeros.items():
        assert int(removed.sum()) > 0
        assert not state[key][removed].any()
        assert bool(state[key][~removed].any()) or removed.all()
    moved = [key for key in state if not torch.equal(state[key], model.state_dict()[key])]
    assert len(moved) > len(zeros)


class Greedy(nn.Module):
    """Its logits grow with the first layer's weights, so a gradient reaches removed units past their ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.output = nn.Linear(144, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.output(torch.relu(self.first(x.flatten(1))))
        return logits * (1.0 + self.first.weight.sum())


def test_a_removed_unit_is_held_even_where_a_gradient_pulls_at_it() -> None:
    torch.manual_seed(0)
    model, data = Greedy(), toy()
    masks = {"first": np.array([True, False, False, True])}
    free = fit(prune(model, masks, data.images), data, data, FitSettings(epochs=1)).model
    held = fit(model, data, data, FitSettings(epochs=1), masks=masks).model
    removed = ~masks["first"]
    assert free.first.weight[removed].abs().min() > 0
    assert not held.first.weight[removed].any()
    assert not held.first.bias[removed].any()
    assert not held.output.weight[:, removed].any()


def test_removed_units_emit_exactly_0_in_training_mode_too() -> None:
    data = toy()
    model = mixed()
    masks = drawn_masks(model, list(consumers(model, data.images)), seed=3)
    result = fit(model, data, data, FitSettings(epochs=1), masks=masks).model.train()
    out = data.images
    gates = {"0": 2, "4": 6, "9": 11}
    for position, module in enumerate(result):
        out = module(out)
        for layer, gate in gates.items():
            if gate == position:
                assert not out[:, ~masks[layer]].any()


def test_a_loss_that_is_not_finite_names_the_epoch_and_the_learning_rate() -> None:
    data = toy()
    settings = FitSettings(epochs=9, learning_rate=1e30, optimiser="sgd")
    with pytest.raises(TrainingDiverged, match=r"epoch \d at learning_rate=1e\+30"):
        fit(nn.Sequential(nn.Flatten(), nn.Linear(144, 9), nn.ReLU(), nn.Linear(9, 3)), data, data, settings)


def test_weights_lost_in_the_very_last_step_are_noticed() -> None:
    data = toy()
    settings = FitSettings(epochs=1, learning_rate=1e38, optimiser="sgd", batch_size=64)
    with pytest.raises(TrainingDiverged, match="epoch 1"):
        fit(nn.Sequential(nn.Flatten(), nn.Linear(144, 9), nn.ReLU(), nn.Linear(9, 3)), data, data, settings)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": -1},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"learning_rate": float("inf")},
        {"batch_size": 0},
        {"optimiser": "adagrad"},
        {"momentum": 1.0},
        {"weight_decay": -0.1},
        {"seed": -1},
        {"threads": 0},
        {"augment": "flip"},
        {"rate_schedule": "linear"},
        {"precision": "float16"},
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(FitSettingsError, match=next(iter(wrong))):
        FitSettings(**wrong)


def test_what_cannot_be_fitted_is_refused_before_any_work() -> None:
    data = toy()
    seen: list[Epoch] = []
    beyond = Split(data.images, data.labels + 1)
    frozen = mixed().requires_grad_(False)
    spoiled = mixed()
    spoiled[0].weight.data[0] = float("nan")
    mask = {"0": ~drawn_masks(mixed(), ["0"], seed=0, keep=1.0)["0"]}
    cases = [
        (mixed(), beyond, FitSettings(), None, LabelError),
        (frozen, data, FitSettings(), None, ModelError),
        (spoiled, data, FitSettings(), None, ModelError),
        (mixed(), data, FitSettings(device="cuda:4096"), None, DeviceError),
        (mixed(), data, FitSettings(batch_size=1), None, FitSettingsError),
        (mixed(), data, FitSettings(), mask, MaskError),
    ]
    for model, train, settings, masks, error in cases:
        with pytest.raises(error):
            fit(model, train, data, settings, masks=masks, callbacks=[seen.append])
    assert seen == []


def test_an_evaluation_counts_by_hand() -> None:
    model = nn.Sequential(nn.Flatten())
    images = torch.tensor([[0.9, 0.1], [0.2, 0.7], [0.3, 0.6]]).reshape(3, 1, 1, 2)
    found = evaluate(model, Split(images, torch.tensor([0, 1, 0])), batch_size=2)
    margins = torch.tensor([0.8, 0.5, -0.3], dtype=torch.float64)
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.loss == pytest.approx(float(torch.log1p(torch.exp(-margins)).mean()), abs=1e-6)
    assert found.images == 3
    with pytest.raises(FitSettingsError, match="batch_size=0"):
        evaluate(model, toy(), batch_size=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_training_on_a_card_returns_a_model_on_the_cpu_and_holds_masks() -> None:
    data, model = toy(), mixed()
    masks = drawn_masks(model, list(consumers(model, data.images)), seed=1)
    settings = FitSettings(epochs=2, device="cuda", weight_decay=0.1)
    result = fit(model, data, data, settings, masks=masks).model
    assert {parameter.device.type for parameter in result.parameters()} == {"cpu"}
    for key, removed in removed_entries(model, masks, data.images).items():
        assert not result.state_dict()[key][removed].any()
    assert evaluate(result, data, device="cuda").loss == pytest.approx(evaluate(result, data).loss, abs=1e-4)


@pytest.mark.skipif(DATA_ROOT is None, reason="DATA_ROOT is not set: no real data sets to read")
@pytest.mark.real_data
def test_an_epoch_on_a_tenth_of_mnist_reads_nine_of_ten_digits() -> None:
    data = load("mnist", root=DATA_ROOT, seed=0, download=False, limit=6000)
    model = build("lenet5", input_shape=data.input_shape, classes=10, seed=0)
    result = fit(model, data.train, data.validation, FitSettings(epochs=2, batch_size=32))
    assert evaluate(result.model, data.test).accuracy > 0.9
