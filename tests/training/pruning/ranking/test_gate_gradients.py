from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tests.training.networks import (
    Forked,
    Functional,
    Inverted,
    Residual,
    Series,
    chains,
    drawn_masks,
    example,
    mixed,
    stir,
)
from training.digests import model_digest
from training.errors import DataError, DeviceError, FitSettingsError, LabelError, ModelError, UnsupportedGraph
from training.pruning import consumers, prune
from training.pruning.dependencies import Links
from training.pruning.masks import Masks
from training.pruning.ranking.gate_gradients import GatedNetwork


class NormedAfter(nn.Module):
    """BatchNorms behind the ReLU, one before and one behind the flattening, and a way around the second."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.flat, self.left, self.right = nn.BatchNorm1d(100, affine=False), nn.Linear(100, 5), nn.Linear(100, 5)
        self.output = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.max_pool2d(self.norm(torch.relu(self.first(x))), 2).flatten(1)
        return self.output(torch.relu(self.left(self.flat(x)) + self.right(x)))


class InPlace(nn.Module):
    """ReLUs in place, and a sum that writes over what no gate moves and layers have read."""

    def __init__(self) -> None:
        super().__init__()
        self.raw, self.stem, self.norm = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.act, self.wide, self.back = nn.ReLU(inplace=True), nn.Conv2d(4, 6, 1), nn.Conv2d(6, 4, 1)
        self.output = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        raw = self.raw(x)
        x = self.act(self.norm(self.stem(raw)))
        raw = raw.add_(self.back(self.act(self.wide(x))))
        return self.output((raw + x).relu_().mean((2, 3)))


def networks() -> list[nn.Module]:
    return [
        mixed(),
        Functional().eval(),
        Residual().eval(),
        stir(Inverted(), 5),
        stir(Series(), 1),
        stir(Forked(), 2),
        stir(NormedAfter(), 3),
        stir(InPlace(), 4),
    ]


def labelled(model: nn.Module, images: int = 12) -> tuple[Tensor, Tensor]:
    x = example(model, images)
    with torch.no_grad():
        return x, torch.arange(images) % model(x).shape[1]


def loss_of_pruned(model: nn.Module, masks: Masks, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return float(cross_entropy(prune(model, masks, images)(images).double(), labels))


def check_against_prune(model: nn.Module, seed: int) -> None:
    images, labels = labelled(model)
    layers = list(consumers(model, images))
    network = GatedNetwork(model, images, labels, layers, batch_size=5)
    drawn = [drawn_masks(model, layers, seed + number, keep) for number, keep in enumerate((0.5, 0.8, 0.3))]
    for masks, others in pairwise(drawn):
        slopes = network.slopes(masks)
        assert slopes.loss == pytest.approx(loss_of_pruned(model, masks, images, labels), abs=1e-6)
        # All layers at once, one at a time, and none: whatever is spared, the loss is that of the network.
        for trial in (others, *(masks | {layer: others[layer]} for layer in layers), masks):
            expected = loss_of_pruned(model, trial, images, labels)
            assert network.loss(trial, slopes) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("model", networks(), ids=lambda model: type(model).__name__)
def test_masks_as_gates_give_the_loss_of_the_pruned_network(model: nn.Module) -> None:
    check_against_prune(model, seed=7)


@settings(max_examples=15, deadline=None)
@given(chains(), st.integers(0, 1000))
def test_masks_as_gates_give_the_loss_of_the_pruned_network_for_drawn_chains(model: nn.Sequential, seed: int) -> None:
    check_against_prune(model, seed)


def scale_columns(model: nn.Module, link: Links, unit: int, factor: float) -> None:
    one = torch.arange(link.units) == unit
    for reader in link.readers:
        module = model.get_submodule(reader.layer)
        groups = getattr(module, "groups", 1)
        columns = reader.spread(one, module.weight.shape[1] * groups)
        for rows, part in zip(module.weight.data.chunk(groups), columns.chunk(groups), strict=True):
            rows[:, part] *= factor


def scale_rows(model: nn.Module, link: Links, unit: int, factor: float) -> None:
    """relu(factor * y) = factor * relu(y): of the last BatchNorm before the ReLU, or of the layer itself."""
    module = model.get_submodule(link.norms[-1].layer if link.norms else link.layer)
    for value in (module.weight, module.bias):
        value.data[unit] *= factor


@pytest.mark.parametrize("model", networks(), ids=lambda model: type(model).__name__)
def test_slopes_are_difference_quotients_of_kept_and_of_removed_units(model: nn.Module) -> None:
    images, labels = labelled(model)
    model, images = model.double(), images.double()
    links = consumers(model, images)
    masks = drawn_masks(model, list(links), seed=5)
    slopes = GatedNetwork(model, images, labels, links, batch_size=5).slopes(masks)
    # Where ways end in sums there are no columns, where a BatchNorm lies behind the ReLU no rows.
    scale = scale_rows if isinstance(model, InPlace) else scale_columns
    step, found = 1e-6, 0
    for layer, link in links.items():
        for unit, kept in enumerate(masks[layer]):
            present = masks[layer].copy()
            present[unit] = True
            moved = prune(model, masks | {layer: present}, images)
            scale(moved, link, unit, 1.0 - step if kept else step)
            quotient = (float(cross_entropy(moved(images), labels).detach()) - slopes.loss) / (-step if kept else step)
            assert slopes.by_layer[layer][unit] == pytest.approx(quotient, abs=1e-5)
            found += abs(quotient) > 1e-3 and not kept
    assert found > 0, "removed units must have slopes, or nothing was tested"


def test_the_model_passed_in_is_not_touched() -> None:
    model = mixed().train()
    images, labels = labelled(mixed())
    before = model_digest(model)
    network = GatedNetwork(model, images, labels, ["0", "9"])
    network.slopes(drawn_masks(model, ["0", "9"], seed=1))
    assert model.training
    assert model_digest(model) == before
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_what_lies_before_the_layers_that_differ_is_not_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = mixed()
    images, labels = labelled(model)
    network = GatedNetwork(model, images, labels, ["0", "4", "9"])
    masks = drawn_masks(model, ["0", "4", "9"], seed=1)
    slopes = network.slopes(masks)
    convolved = []
    convolve = nn.Conv2d.forward

    def note(module: nn.Conv2d, values: Tensor) -> Tensor:
        convolved.append(module.out_channels)
        return convolve(module, values)

    monkeypatch.setattr(nn.Conv2d, "forward", note)
    for layer, expected in (("9", []), ("4", []), ("0", [8])):
        network.loss(masks | {layer: ~masks[layer]}, slopes)
        assert convolved == expected


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"batch_size": 0}, FitSettingsError, "batch_size=0"),
        ({"device": "abacus"}, DeviceError, "abacus"),
        ({"labels": torch.zeros(3)}, DataError, r"labels for 12 images are torch.float32 of shape \(3,\)"),
        ({"labels": torch.full((12,), 3)}, LabelError, "labels run from 3 to 3 but the model has 3 outputs"),
        ({"labels": torch.full((12,), -1)}, LabelError, "labels run from -1"),
        ({"images": torch.zeros(12, 5)}, ModelError, "cannot take images of shape"),
        ({"layers": ["13"]}, UnsupportedGraph, "layer '13' reaches the model's output"),
    ],
)
def test_what_cannot_be_gated_is_refused_in_one_line(change: dict[str, object], error: type, said: str) -> None:
    images, labels = labelled(mixed())
    given = {"images": images, "labels": labels, "layers": ["0"]} | change
    with pytest.raises(error, match=said):
        GatedNetwork(mixed(), **given)
