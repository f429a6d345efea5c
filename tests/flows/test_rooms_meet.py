"""The two libraries meet: a mask means the same network to the program and to torch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import training
from formulation import UnsupportedLayer, lower
from tests.formulation import cases
from tests.formulation.lowering.test_lowering_drawn import Drawn, drawn_networks
from tests.formulation.lowering.test_lowering_graphs import JOINS, SUMS, Joined
from tests.training.networks import Bypassed, Forked, Functional, Inverted, Residual, Series


class Grouped(nn.Module):
    """A strided and a grouped convolution with BatchNorm, one ReLU module for all, functional pooling and reshaping."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 6, 3, padding=1, groups=2)
        self.relu = nn.ReLU()
        self.dense = nn.Linear(6 * 3 * 3, 7)
        self.output = nn.Linear(7, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.norm(self.first(x)))
        x = nn.functional.avg_pool2d(self.relu(self.second(x)), 2)
        return self.output(torch.relu(self.dense(x.view(x.size(0), -1))))


def trained_norms(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for value in (module.weight, module.bias, module.running_mean, module.running_var):
                if value is not None:
                    value.data.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return model


@pytest.mark.parametrize("name", ["fc3", "lenet5", "grouped"])
@pytest.mark.parametrize("keep", [0.2, 0.5, 0.8])
def test_a_pruned_torch_network_is_the_lowered_network_under_the_same_masks(name: str, keep: float) -> None:
    size = 14 if name == "grouped" else 28
    torch.manual_seed(0)
    model = (
        trained_norms(Grouped())
        if name == "grouped"
        else training.build(name, input_shape=(1, 28, 28), classes=10, seed=0)
    )
    model = model.double().eval()
    images = torch.rand(20, 1, size, size, dtype=torch.float64)
    network = lower(model, images)
    rng = np.random.default_rng(int(10 * keep))
    masks = {layer: rng.random(units) < keep for layer, units in network.units.items()}
    for mask in masks.values():
        mask[0] = True
    with torch.no_grad():
        pruned = training.prune(model, masks, images[:1])(images)
    ours = network.evaluate(images.flatten(1).numpy().T, masks)
    assert not np.allclose(ours.T, model(images).detach().numpy())
    np.testing.assert_allclose(ours.T, pruned.numpy(), rtol=0, atol=1e-10)


def assert_meet(model: nn.Module, images: torch.Tensor, seed: int, *, keep: float = 0.5) -> None:
    """Both libraries find the same layers, and a random mask means the same network to both."""
    model = model.double().eval()
    network = lower(model, images)
    rng = np.random.default_rng(seed)
    masks = {layer: rng.random(units) < keep for layer, units in network.units.items()}
    for mask in masks.values():
        mask[rng.integers(len(mask))] = True
    assert {name: links.units for name, links in training.consumers(model, images).items()} == network.units
    with torch.no_grad():
        pruned = training.prune(model, masks, images[:1])(images)
    ours = network.evaluate(images.flatten(1).numpy().T, masks)
    np.testing.assert_allclose(ours.T, pruned.numpy(), rtol=0, atol=1e-10)


BUILDERS = [
    cases.residual, cases.inverted, cases.densely_connected, cases.leaky, cases.concatenated, cases.max_pooled,
    cases.conv1d_series, cases.tabular, cases.batchnorm_after_relu, cases.conv_pool, cases.strided_grouped,
]  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("build", BUILDERS, ids=lambda build: build.__name__)
def test_pruning_any_small_network_is_masking_it(build, seed: int) -> None:
    made = build(seed)
    assert_meet(made.model, made.images, seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg7", "vgg16_plain", "resnet20"])
def test_pruning_a_deep_network_is_masking_it(name: str) -> None:
    model = trained_norms(training.build(name, input_shape=(3, 8, 8), classes=10, seed=0))
    assert_meet(model, torch.rand(2, 3, 8, 8, dtype=torch.float64), seed=1)


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (Forked, (1, 12, 12)),
        (Functional, (1, 12, 12)),
        (Series, (2, 11)),
        (Residual, (1, 2, 2)),
        (Bypassed, (1, 2, 2)),
        (Inverted, (1, 12, 12)),
    ],
    ids=["concatenated twice", "two outputs", "series", "a sum", "a sum with pixels", "depthwise"],
)
@pytest.mark.parametrize("seed", range(3))
def test_pruning_branches_is_masking_them(network, shape: tuple[int, ...], seed: int) -> None:
    torch.manual_seed(seed)
    assert_meet(trained_norms(network()), torch.rand(4, *shape, dtype=torch.float64), seed)


@pytest.mark.parametrize("form", [form for form in (*JOINS, *SUMS) if not form.startswith("constant")])
def test_pruning_joined_units_is_masking_them(form: str) -> None:
    torch.manual_seed(0)
    model = Joined(JOINS[form][0]) if form in JOINS else Joined(SUMS[form], 2 * 9)
    assert_meet(trained_norms(model), torch.rand(4, 1, 4, 4, dtype=torch.float64), 0)


def test_pruning_resnet18_is_masking_it() -> None:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    assert_meet(
        trained_norms(resnet18(weights=None, num_classes=10)),
        torch.rand(2, 3, 32, 32, dtype=torch.float64),
        0,
        keep=0.8,
    )


@settings(derandomize=True, deadline=None, database=None, max_examples=40)
@given(drawn=drawn_networks(), seed=st.integers(0, 1000))
def test_pruning_any_drawn_network_is_masking_it(drawn: Drawn, seed: int) -> None:
    assert_meet(drawn, drawn.images, seed)


def test_a_constant_behind_a_gate_stays_where_the_unit_is_removed() -> None:
    model, images = Joined(lambda m, a, b: torch.relu(a) + 1, 2 * 9).eval(), torch.rand(2, 1, 4, 4)
    assert lower(model, images).units == {"a": 2}
    assert_meet(trained_norms(model.double()), images.double(), 0)


def test_both_libraries_find_the_same_layers_to_score_and_to_prune() -> None:
    model = trained_norms(Grouped()).eval()
    example = torch.rand(1, 1, 14, 14)
    assert {name: links.units for name, links in training.consumers(model, example).items()} == lower(
        model, example
    ).units


class TwoNorms(nn.Module):
    """One BatchNorm behind two convolutions: removing a unit of the first would change the second."""

    def __init__(self, affine: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3)
        self.norm = nn.BatchNorm2d(4, affine=affine)
        self.output = nn.Linear(4 * 4 * 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.first(x)))
        return self.output(torch.relu(self.norm(self.second(x))).flatten(1))


@pytest.mark.parametrize("affine", [True, False])
def test_a_norm_behind_two_layers_is_refused_by_both(affine: bool) -> None:
    model, example = TwoNorms(affine).eval(), torch.rand(1, 1, 8, 8)
    with pytest.raises(UnsupportedLayer, match="'norm'"):
        lower(model, example)
    with pytest.raises(training.UnsupportedGraph, match="'norm'"):
        training.consumers(model, example)


FORMS = {
    "flatten before the ReLU": lambda conv, x: torch.relu(conv(x).flatten(1)),
    "contiguous view": lambda conv, x: F.relu_(conv(x)).contiguous().view(x.size(0), -1),
    "in place": lambda conv, x: torch.relu_(conv(x)).flatten(1),
    "dropout": lambda conv, x: F.dropout1d(F.dropout(F.relu(conv(x)), training=False).flatten(1), training=False),
    "a constant factor": lambda conv, x: torch.flatten(2.0 * F.relu(conv(x)) / 3.0, 1),
}


class Formed(nn.Module):
    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.conv, self.output = nn.Conv2d(1, 5, 3), nn.Linear(5 * 4 * 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.output(FORMS[self.form](self.conv, x))


@pytest.mark.parametrize("form", FORMS)
def test_what_can_be_scored_can_be_pruned(form: str) -> None:
    torch.manual_seed(0)
    model, images = Formed(form).double().eval(), torch.rand(6, 1, 6, 6, dtype=torch.float64)
    masks = {"conv": np.array([True, False, True, True, False])}
    with torch.no_grad():
        pruned = training.prune(model, masks, images[:1])(images)
    np.testing.assert_allclose(lower(model, images).evaluate(images.flatten(1).numpy().T, masks).T, pruned, atol=1e-12)
