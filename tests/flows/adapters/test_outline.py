"""Scored layers, found without the matrices."""

import tracemalloc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import training
from formulation import UnsupportedLayer, lower, outline
from tests.formulation import cases

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["lenet5", "vgg7", "resnet20", "torchvision:resnet18"])
def test_it_names_the_layers_that_lowering_names(name: str) -> None:
    model = training.build(name, input_shape=(3, 16, 16), classes=4, seed=0).eval()
    found, network = outline(model, IMAGES), lower(model, IMAGES)
    assert found.units == network.units
    assert found.unscored == network.unscored
    assert found.tied == {each.name: each.others for each in network.layers if each.others}


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_it_does_so_for_networks_of_any_structure(seed: int) -> None:
    case = cases.dense(seed)
    assert outline(case.model, case.images).units == lower(case.model, case.images).units


def test_the_model_is_left_as_it_was() -> None:
    model = training.build("vgg7", input_shape=(3, 16, 16), classes=4, seed=0).eval()
    before = training.model_digest(model)
    outline(model, IMAGES)
    assert training.model_digest(model) == before


def test_it_refuses_what_lowering_refuses() -> None:
    with pytest.raises(UnsupportedLayer, match="'1' \\(Sigmoid\\)"):
        outline(
            nn.Sequential(nn.Conv2d(3, 2, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(392, 4)).eval(), IMAGES, "pattern"
        )


def test_it_takes_a_small_part_of_the_memory_that_lowering_takes() -> None:
    model = training.build("vgg7", input_shape=(3, 16, 16), classes=4, seed=0).eval()
    assert _peak(outline, model) < 0.1 * _peak(lower, model)


def _peak(work, model: nn.Module) -> int:
    tracemalloc.start()
    work(model, IMAGES)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak
