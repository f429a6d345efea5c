"""Networks of other widths, by their names."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from training import build, compact, consumers, load_compact, model_digest, predict, read_spec, save_compact
from training.errors import CheckpointError, UnknownModel
from training.models import MODELS, OF_ANY_WIDTH, is_built_in

SHAPE = (3, 16, 16)


def made(name: str) -> nn.Module:
    return build(name, input_shape=SHAPE, classes=7, seed=0)


def hidden(model: nn.Module) -> list[int]:
    """The units of all layers but the output."""
    layers = [part for part in model.modules() if isinstance(part, nn.Conv2d | nn.Linear)]
    return [len(layer.weight) for layer in layers[:-1]]


@pytest.mark.parametrize("width", [0.25, 0.3, 2.0])
@pytest.mark.parametrize("name", ["vgg7", "vgg16_plain", "resnet20"])
def test_a_width_multiplies_the_units_of_every_hidden_layer(name: str, width: float) -> None:
    wide = made(f"{name}@{width}")
    assert hidden(wide) == [round(width * units) for units in hidden(made(name))]
    assert predict(wide, torch.rand(2, *SHAPE)).shape == (2, 7)


@pytest.mark.parametrize("name", OF_ANY_WIDTH)
def test_no_layer_is_left_without_a_unit(name: str) -> None:
    assert set(hidden(made(f"{name}@0.001"))) == {1}


def test_a_quarter_of_vgg16_has_the_parameters_counted_by_hand() -> None:
    widths = [16, 16, 32, 32, 64, 64, 64, *[128] * 6]
    convolutions = sum(9 * reads * makes + 2 * makes for reads, makes in zip([3, *widths], widths, strict=False))
    linear = 2 * (128 * 128 + 128) + 128 * 7 + 7
    assert sum(parameter.numel() for parameter in made("vgg16@0.25").parameters()) == convolutions + linear


@pytest.mark.parametrize("name", ["vgg16", "resnet20"])
def test_a_width_of_one_is_the_network_itself(name: str) -> None:
    assert model_digest(made(f"{name}@1")) == model_digest(made(name)) != model_digest(made(f"{name}@0.5"))


@pytest.mark.parametrize("given", ["0", "-1", "x", "", "nan", "inf", "17", "0.5@2"])
def test_a_width_out_of_range_is_refused_by_name(given: str) -> None:
    with pytest.raises(UnknownModel, match=f"model 'vgg16@{given}': the width '{given}' behind '@' is out of range"):
        made(f"vgg16@{given}")


@pytest.mark.parametrize("name", ["lenet5", "fc3"])
def test_a_network_of_one_width_is_refused_in_another(name: str) -> None:
    with pytest.raises(UnknownModel, match=f"model '{name}@0.5': {name} comes in no other width: .* vgg16, .*resnet20"):
        made(f"{name}@0.5")


def test_an_unknown_network_with_a_width_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownModel, match=r"model 'vg16@0.5' is unknown \(did you mean 'vgg16'\?\)"):
        made("vg16@0.5")


def test_only_what_can_be_built_is_built_in() -> None:
    assert all(map(is_built_in, (*MODELS, "vgg16@0.25", "resnet20@2")))
    assert not any(map(is_built_in, (None, "lenet5@0.5", "vgg16@0", "own.py:factory", "torchvision:resnet18")))


def test_a_compacted_network_of_another_width_comes_back_from_its_file_alone(tmp_path: Path) -> None:
    model, images = made("vgg16@0.25"), torch.rand(4, *SHAPE)
    masks = {layer: np.arange(link.units) % 3 > 0 for layer, link in consumers(model, images).items()}
    compacted = compact(model, masks, images).eval()
    save_compact(compacted, masks, SHAPE, tmp_path / "quarter.pt", model="vgg16@0.25")
    again = load_compact(tmp_path / "quarter.pt")
    assert model_digest(again) == model_digest(compacted)
    assert torch.equal(again(images), compacted(images))
    assert read_spec(tmp_path / "quarter.pt").model == "vgg16@0.25"


def test_a_file_that_names_no_built_in_width_needs_its_architecture(tmp_path: Path) -> None:
    model, images = made("vgg7@0.25"), torch.rand(1, *SHAPE)
    masks = {layer: np.arange(link.units) > 0 for layer, link in consumers(model, images).items()}
    save_compact(compact(model, masks, images), masks, SHAPE, tmp_path / "a.pt", model="vgg7@0")
    with pytest.raises(CheckpointError, match="holds vgg7@0, which is not built in"):
        load_compact(tmp_path / "a.pt")
    assert hidden(load_compact(tmp_path / "a.pt", model)) == [units - 1 for units in hidden(model)]
