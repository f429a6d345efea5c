"""Oracle 1: the lowered network computes what the module computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from formulation import Network, lower
from formulation.network import Relu
from tests.formulation.oracles import repeatable


def assert_same(model: nn.Module, images: Tensor) -> Network:
    """The lowered network agrees with the module on images that it was not lowered with."""
    model = model.double().eval()
    network = lower(model, images[:1])
    with torch.no_grad():
        expected = model(images).numpy().T
    found = network.evaluate(images.reshape(len(images), -1).numpy().T)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    return network


def pictures(seed: int, *shape: int) -> Tensor:
    """Three images of that shape."""
    return torch.randn(3, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def shaken(model: nn.Module, seed: int) -> nn.Module:
    """Every parameter and running statistic drawn anew, so that no rule can hide behind zeros and ones."""
    draw = torch.Generator().manual_seed(seed)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point():
            fresh = torch.randn(tensor.shape, generator=draw)
            tensor.data.copy_(fresh.abs() + 0.1 if name.endswith("running_var") else fresh)
    return model


class Applied(nn.Module):
    """Conv, the given function, Linear: for functional forms."""

    def __init__(self, function: Callable[[Tensor], Tensor], features: int = 3 * 4 * 4) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 3, 3), nn.Linear(features, 4)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.function(self.conv(x)))


sizes = st.integers(1, 3)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@repeatable
@given(
    seed=st.integers(0, 10_000), kernel=st.tuples(sizes, sizes),
    stride=st.tuples(sizes, sizes), dilation=st.tuples(sizes, sizes),
    padding=st.one_of(st.tuples(st.integers(0, 2), st.integers(0, 2)), st.sampled_from(["valid", "same"])),
    groups=st.sampled_from([1, 2]), bias=st.booleans(), image=st.tuples(st.integers(5, 8), st.integers(5, 8)),
)  # fmt: skip
def test_any_convolution_equals_the_module(seed, kernel, stride, dilation, padding, groups, bias, image):
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    around = (0, 0) if isinstance(padding, str) else padding
    assume(all(r <= i + 2 * p for r, i, p in zip(reach, image, around, strict=True)))
    stride = (1, 1) if padding == "same" else stride
    conv = nn.Conv2d(4, 6, kernel, stride, padding, dilation, groups, bias)
    model = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)).double()
    model(pictures(seed, 4, *image))
    network = assert_same(shaken(model, seed), pictures(seed, 4, *image))
    assert network.units == {"0": 6}


@repeatable
@given(seed=st.integers(0, 10_000), widths=st.lists(st.integers(1, 7), min_size=2, max_size=5), bias=st.booleans())
def test_any_dense_network_equals_the_module(seed, widths, bias):
    layers: list[nn.Module] = [nn.Flatten()]
    for fed, made in zip((6, *widths), widths, strict=False):
        layers += [nn.Linear(fed, made, bias=bias), nn.ReLU()]
    network = assert_same(shaken(nn.Sequential(*layers[:-1]), seed), pictures(seed, 1, 2, 3))
    assert list(network.units.values()) == widths[:-1]


@repeatable
@given(
    seed=st.integers(0, 10_000), kernel=st.tuples(st.integers(2, 3), st.integers(2, 3)), stride=st.integers(1, 3),
    padding=st.integers(0, 1), ceil_mode=st.booleans(), count_include_pad=st.booleans(),
    divisor=st.sampled_from([None, 5]),
)  # fmt: skip
def test_any_average_pool_equals_the_module(seed, kernel, stride, padding, ceil_mode, count_include_pad, divisor):
    pool = nn.AvgPool2d(kernel, stride, padding, ceil_mode, count_include_pad, divisor)
    model = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), pool, nn.Flatten(), nn.LazyLinear(3)).double()
    model(pictures(seed, 1, 7, 8))
    assert_same(shaken(model, seed), pictures(seed, 1, 7, 8))


@pytest.mark.parametrize("size", [1, 2, (2, 3), (None, 2)])
def test_an_adaptive_average_pool_equals_the_module(size):
    pool = nn.AdaptiveAvgPool2d(size)
    model = nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU(), pool, nn.Flatten(), nn.LazyLinear(3)).double()
    model(pictures(0, 1, 7, 8))
    assert_same(shaken(model, 1), pictures(0, 1, 7, 8))


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm_before_a_relu_equals_the_module(affine):
    model = nn.Sequential(
        nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2, affine=affine), nn.ReLU(), nn.Flatten(),
        nn.Linear(2 * 9, 5), nn.BatchNorm1d(5, affine=affine), nn.ReLU(), nn.Linear(5, 3),
    )  # fmt: skip
    network = assert_same(shaken(model, 2), pictures(3, 1, 4, 4))
    assert network.units == {"0": 2, "4": 5}


def test_layers_without_effect_in_eval_mode_vanish():
    model = nn.Sequential(
        nn.Identity(), nn.Flatten(), nn.Linear(4, 3), nn.Dropout(0.5), nn.ReLU(),
        nn.Dropout1d(0.5), nn.Linear(3, 2),
    )  # fmt: skip
    network = assert_same(shaken(model, 0), pictures(0, 1, 2, 2))
    assert [type(node.op).__name__ for node in network.nodes] == ["Affine", "Relu", "Affine"]


FUNCTIONAL = {
    "F.relu and torch.flatten": lambda x: torch.flatten(F.relu(x), 1),
    "in place": lambda x: torch.flatten(F.relu(x, inplace=True), start_dim=1),
    "methods": lambda x: x.relu().flatten(1),
    "view of size": lambda x: torch.relu(x).view(x.size(0), -1),
    "view of size()": lambda x: torch.relu(x).view(x.size()[0], -1),
    "view of shape": lambda x: torch.relu(x).view(x.shape[0], -1),
    "view with a known width": lambda x: torch.relu(x).view(-1, 48),
    "reshape": lambda x: torch.relu(x).reshape((x.shape[0], -1)),
    "torch.reshape": lambda x: torch.reshape(torch.relu(x), (-1, 48)),
    "dropout told not to train": lambda x: F.dropout(torch.relu(x), 0.5, False).flatten(1),
    "constants before a ReLU": lambda x: torch.relu((torch.relu(x) * 2 - 0.5) / 3 + 1).flatten(1),
    "constant minus activation": lambda x: torch.relu(1 - torch.relu(x)).flatten(1),
    "a factor behind the ReLU": lambda x: (0.5 * torch.relu(x)).flatten(1),
    "a constant behind the ReLU": lambda x: (torch.relu(x) / 2 - 1).flatten(1),
    "asked for its axes": lambda x: torch.relu(x).flatten(x.ndim - x.dim() + 1),
    "in place by position": lambda x: F.relu(x, True).flatten(1),
    "a sum with its usual factor": lambda x: torch.add(torch.relu(x), 1.0, alpha=1).flatten(1),
    "two ReLUs": lambda x: torch.relu(torch.relu(x) - 0.1).flatten(1),
}


@pytest.mark.parametrize("form", FUNCTIONAL)
def test_functional_forms_equal_the_module(form):
    assert_same(shaken(Applied(FUNCTIONAL[form]), 4), pictures(5, 2, 6, 6))


@pytest.mark.parametrize(
    ("pool", "features"),
    [
        (lambda x: F.avg_pool2d(x, 2), 12),
        (lambda x: F.avg_pool2d(x, kernel_size=3, stride=1, padding=1, count_include_pad=False), 48),
        (lambda x: F.avg_pool2d(input=x, kernel_size=2), 12),
        (lambda x: F.adaptive_avg_pool2d(x, (1, 2)), 6),
    ],
)
def test_functional_pools_equal_the_module(pool, features):
    assert_same(shaken(Applied(lambda x: pool(F.relu(x)).flatten(1), features), 4), pictures(5, 2, 6, 6))


def test_normalisation_inside_the_model_is_lowered():
    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.tensor([0.1, 0.2]).reshape(1, 2, 1, 1))
            self.register_buffer("std", torch.tensor([0.5, 0.7]).reshape(1, 2, 1, 1))
            self.conv, self.relu, self.fc = nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Linear(48, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.relu(self.conv((x - self.mean) / self.std)).flatten(1))

    network = assert_same(Normalised(), pictures(6, 2, 6, 6))
    assert network.units == {"conv": 3}


def test_one_relu_and_one_pool_module_may_serve_several_layers():
    class Reused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 3, 2), nn.Linear(3, 4)
            self.relu, self.pool = nn.ReLU(), nn.AvgPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.pool(self.relu(self.a(x)))
            return self.c(self.pool(self.relu(self.b(x))).flatten(1))

    network = assert_same(shaken(Reused(), 0), pictures(1, 1, 8, 8))
    assert network.units == {"a": 2, "b": 3}
    assert len({node.name for node in network.nodes}) == len(network.nodes)


def test_units_are_named_by_torch_and_feature_maps_are_one_unit_each():
    block = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AvgPool2d(2))
    model = nn.Sequential(block, nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 2)).eval()
    network = lower(model, pictures(0, 1, 6, 6))
    assert network.units == {"0.0": 4, "2": 6}
    assert [layer.kernel for layer in network.layers] == [9, 1]
    scores = [node.op.score for node in network.nodes if isinstance(node.op, Relu)]
    np.testing.assert_array_equal(scores[0], np.repeat(np.arange(4), 16))
    np.testing.assert_array_equal(scores[1], 4 + np.arange(6))


def test_a_mask_in_the_network_is_a_mask_in_torch():
    model = shaken(nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)), 1).double().eval()
    images = pictures(2, 1, 3, 3)
    mask = np.array([1.0, 0.0, 1.0])
    with torch.no_grad():
        hidden = model[1](model[0](images)) * torch.tensor(mask).reshape(1, 3, 1, 1)
        expected = model[3](model[2](hidden)).numpy().T
    found = lower(model, images).evaluate(images.reshape(3, -1).numpy().T, {"0": mask})
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_float32_models_are_lowered_in_float64_and_left_as_they_were():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    network = lower(model, torch.rand(2, 1, 2, 2))
    assert network.nodes[0].op.bias.dtype == np.float64
    assert model[1].weight.dtype == torch.float32


def test_the_digest_follows_the_weights():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).double().eval()
    images = pictures(0, 1, 2, 2)
    before = lower(model, images).digest()
    assert lower(model, images).digest() == before
    with torch.no_grad():
        model[3].bias[1] += 1e-12
    assert lower(model, images).digest() != before
