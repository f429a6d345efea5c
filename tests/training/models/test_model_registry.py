from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from training.digests import model_digest
from training.errors import CheckpointError, FitSettingsError, ModelError, UnknownModel
from training.inference import predict
from training.models import MODELS, build
from training.models.checkpoints import save_checkpoint
from training.pruning import consumers


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("input_shape", [(1, 28, 28), (3, 32, 32), (1, 16, 20)])
def test_every_model_takes_every_shape(name: str, input_shape: tuple[int, int, int]) -> None:
    model = build(name, input_shape=input_shape, classes=7, seed=0)
    assert predict(model, torch.rand(2, *input_shape)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("fc2", {"fc1": 300}),
        ("fc3", {"fc1": 300, "fc2": 100}),
        ("fc4", {"fc1": 200, "fc2": 100, "fc3": 100}),
        ("lenet5", {"conv1": 6, "conv2": 16, "fc1": 120, "fc2": 84}),
    ],
)
def test_the_widths_are_those_of_the_paper(name: str, widths: dict[str, int]) -> None:
    model = build(name, input_shape=(1, 28, 28), classes=10, seed=0)
    links = consumers(model, torch.zeros(1, 1, 28, 28))
    assert {layer: link.units for layer, link in links.items()} == widths


@pytest.mark.parametrize(
    ("name", "convolutions", "linear"),
    [
        ("vgg7", 4, 3),
        ("vgg16", 13, 3),
        ("vgg16_plain", 13, 3),
        ("vgg19", 16, 3),
        ("resnet20", 21, 1),
        ("resnet56", 57, 1),
    ],
)
def test_a_name_counts_the_layers_with_weights(name: str, convolutions: int, linear: int) -> None:
    parts = list(build(name, input_shape=(3, 32, 32), classes=10, seed=0).modules())
    found = sum(isinstance(part, nn.Conv2d) for part in parts)
    # Residual networks have two shortcuts with weights beside the layers that their names count.
    assert (found, sum(isinstance(part, nn.Linear) for part in parts)) == (convolutions, linear)
    assert str(found + linear - (2 if name.startswith("resnet") else 0)) in name
    assert any(isinstance(part, nn.BatchNorm2d) for part in parts) == (name != "vgg16_plain")


def test_the_convolutions_of_vgg16_are_those_of_the_paper() -> None:
    model = build("vgg16", input_shape=(3, 32, 32), classes=10, seed=0)
    widths = [part.out_channels for part in model.modules() if isinstance(part, nn.Conv2d)]
    assert widths == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert sum(isinstance(part, nn.MaxPool2d) for part in model.modules()) == 5


def test_units_inside_residual_blocks_can_go_and_those_of_each_stage_as_one() -> None:
    model = build("resnet20", input_shape=(3, 8, 8), classes=10, seed=0)
    links = consumers(model, torch.zeros(1, 3, 8, 8))
    inner = {f"stage{stage}.block{block}.conv1" for stage in (1, 2, 3) for block in (1, 2, 3)}
    assert set(links) == inner | {"conv1", "stage2.block1.conv2", "stage3.block1.conv2"}
    blocks = (1, 2, 3)
    assert links["conv1"].tied == tuple(f"stage1.block{block}.conv2" for block in blocks)
    assert set(links["stage2.block1.conv2"].tied) == {
        "stage2.block1.shortcut.conv",
        *(f"stage2.block{block}.conv2" for block in blocks[1:]),
    }


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_a_model_of_torchvision_is_built_for_the_classes(name: str) -> None:
    model = build(f"torchvision:{name}", input_shape=(3, 32, 32), classes=7, seed=0)
    again = build(f"torchvision:{name}", input_shape=(3, 32, 32), classes=7, seed=0)
    assert predict(model, torch.rand(2, 3, 32, 32)).shape == (2, 7)
    assert model_digest(model) == model_digest(again)


@pytest.mark.parametrize("name", ["resnet19", "ResNet18", "fcn_resnet50"])
def test_an_unknown_model_of_torchvision_is_refused_with_the_nearest(name: str) -> None:
    with pytest.raises(UnknownModel, match=f"'torchvision:{name}' is unknown \\(did you mean 'torchvision:resnet"):
        build(f"torchvision:{name}", input_shape=(3, 32, 32), classes=7, seed=0)


def test_lenet5_on_mnist_has_the_published_number_of_parameters() -> None:
    model = build("lenet5", input_shape=(1, 28, 28), classes=10, seed=0)
    assert sum(parameter.numel() for parameter in model.parameters()) == 44426


def test_the_seed_decides_the_weights_and_the_global_generator_is_left_alone() -> None:
    state = torch.random.get_rng_state()
    first, again, other = (build("fc3", input_shape=(1, 8, 8), classes=3, seed=seed) for seed in (1, 1, 2))
    assert model_digest(first) == model_digest(again) != model_digest(other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_images_too_small_for_lenet5_are_refused_in_one_line() -> None:
    with pytest.raises(ModelError, match="cannot take images of 28x15: at least 16x16 are needed"):
        build("lenet5", input_shape=(1, 28, 15), classes=10, seed=0)


@pytest.mark.parametrize(("name", "guess"), [("lenet", "lenet5"), ("FC3", "fc3"), ("LeNet-5", "lenet5")])
def test_an_unknown_model_is_refused_with_the_nearest_and_all_known(name: str, guess: str) -> None:
    with pytest.raises(UnknownModel, match=f"did you mean '{guess}'") as caught:
        build(name, input_shape=(1, 28, 28), classes=10, seed=0)
    assert all(known in str(caught.value) for known in MODELS)


@pytest.mark.parametrize(("name", "full"), [("resnet18", "torchvision:resnet18"), ("VGG11", "torchvision:vgg11")])
def test_a_name_that_torchvision_alone_has_is_suggested_with_its_prefix(name: str, full: str) -> None:
    with pytest.raises(UnknownModel, match=f"did you mean '{full}'"):
        build(name, input_shape=(3, 32, 32), classes=10, seed=0)


@pytest.mark.parametrize(
    "wrong", [{"input_shape": (1, 0, 28)}, {"input_shape": (28, 28)}, {"classes": 1}, {"seed": -1}]
)
def test_a_value_out_of_range_is_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(FitSettingsError, match=next(iter(wrong))):
        build("fc2", **{"input_shape": (1, 28, 28), "classes": 10, "seed": 0, **wrong})


def test_an_own_model_is_seeded_loaded_and_held_to_the_data(tmp_path: Path) -> None:
    name = "tests.training.networks:mixed"
    model = build(name, input_shape=(1, 12, 12), classes=3, seed=0)
    save_checkpoint(model, tmp_path / "own.pt")
    loaded = build(name, input_shape=(1, 12, 12), classes=3, seed=5, checkpoint=tmp_path / "own.pt")
    assert model_digest(loaded) == model_digest(model)
    with pytest.raises(ModelError, match="has 3 outputs but the data has 10 classes"):
        build(name, input_shape=(1, 12, 12), classes=10, seed=0)
    with pytest.raises(ModelError, match="cannot take images of shape"):
        build(name, input_shape=(3, 12, 12), classes=3, seed=0)


def test_lazy_layers_are_drawn_from_the_seed(tmp_path: Path) -> None:
    path = tmp_path / "lazy.py"
    path.write_text("from torch import nn\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.LazyLinear(2))\n")
    models = [build(f"{path}:make", input_shape=(1, 3, 3), classes=2, seed=seed) for seed in (0, 0, 1)]
    assert isinstance(models[0][1], nn.Linear)
    assert model_digest(models[0]) == model_digest(models[1]) != model_digest(models[2])


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    save_checkpoint(build("fc3", input_shape=(1, 8, 8), classes=3, seed=0), tmp_path / "fc3.pt")
    with pytest.raises(CheckpointError, match="does not fit the model"):
        build("fc4", input_shape=(1, 8, 8), classes=3, seed=0, checkpoint=tmp_path / "fc3.pt")
