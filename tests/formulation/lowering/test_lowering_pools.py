"""Oracle 1 for pools, convolutions along one axis, functional forms with weights, and vectors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn

from formulation.network import MaxPool
from tests.formulation.lowering.test_lowering import Applied, assert_same, pictures, shaken
from tests.formulation.oracles import repeatable


def behind(middle: nn.Module, shape: tuple[int, ...], seed: int, before: nn.Module | None = None) -> nn.Module:
    """A convolution of two maps, ReLU, the given layer, Linear; or with the ReLU behind the layer."""
    conv = nn.Conv1d(shape[0], 2, 2) if len(shape) == 2 else nn.Conv2d(shape[0], 2, 2)
    layers = [conv, middle, nn.ReLU()] if seed % 2 else [conv, nn.ReLU(), middle]
    model = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(3)).double()
    model(pictures(seed, *shape))
    return shaken(model, seed)


@repeatable
@given(
    seed=st.integers(0, 10_000), kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.one_of(st.none(), st.integers(1, 3), st.tuples(st.integers(1, 3), st.integers(1, 3))),
    padding=st.integers(0, 1), dilation=st.integers(1, 2), ceil_mode=st.booleans(),
)  # fmt: skip
def test_any_max_pool_equals_the_module(seed, kernel, stride, padding, dilation, ceil_mode):
    assume(padding <= min(kernel) // 2)
    pool = nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=ceil_mode)
    network = assert_same(behind(pool, (1, 7, 9), seed), pictures(seed, 1, 7, 9))
    assert network.units == {"0": 2}
    assert any(isinstance(node.op, MaxPool) for node in network.nodes)


@repeatable
@given(
    seed=st.integers(0, 10_000), kernel=st.integers(1, 3), stride=st.integers(1, 4), padding=st.integers(0, 1),
    ceil_mode=st.booleans(), largest=st.booleans(),
)  # fmt: skip
def test_any_pool_along_one_axis_equals_the_module(seed, kernel, stride, padding, ceil_mode, largest):
    assume(padding <= kernel // 2)
    kind = nn.MaxPool1d if largest else nn.AvgPool1d
    pool = kind(kernel, stride, padding, ceil_mode=ceil_mode)
    assert_same(behind(pool, (2, 8), seed), pictures(seed, 2, 8))


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "pool",
    [
        nn.AdaptiveMaxPool2d(1), nn.AdaptiveMaxPool2d((4, None)), nn.AdaptiveMaxPool2d((2, 3)),
        nn.AdaptiveAvgPool2d((3, 4)), nn.AdaptiveAvgPool1d(3), nn.AdaptiveAvgPool1d(1), nn.AdaptiveMaxPool1d(4),
    ],
    ids=repr,
)  # fmt: skip
def test_adaptive_pools_equal_the_module(pool: nn.Module, seed: int) -> None:
    shape = (1, 8, 6) if "2d" in repr(pool) else (2, 9)
    assert_same(behind(pool, shape, seed), pictures(seed, *shape))


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@repeatable
@given(
    seed=st.integers(0, 10_000), kernel=st.integers(1, 3), stride=st.integers(1, 3), dilation=st.integers(1, 3),
    padding=st.one_of(st.integers(0, 2), st.sampled_from(["valid", "same"])), groups=st.sampled_from([1, 2]),
    bias=st.booleans(), norm=st.sampled_from([None, True, False]),
)  # fmt: skip
def test_any_convolution_along_one_axis_equals_the_module(seed, kernel, stride, dilation, padding, groups, bias, norm):
    stride = 1 if padding == "same" else stride
    layers = [nn.Conv1d(4, 6, kernel, stride, padding, dilation, groups, bias)]
    layers += [] if norm is None else [nn.BatchNorm1d(6, affine=norm)]
    model = nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)).double().eval()
    model(pictures(seed, 4, 7))
    network = assert_same(shaken(model, seed), pictures(seed, 4, 7))
    assert network.units == {"0": 6}
    assert network.layers[0].kernel == kernel
    assert len(network.nodes) == 3


@repeatable
@given(
    seed=st.integers(0, 10_000), widths=st.lists(st.integers(1, 6), min_size=2, max_size=4), bias=st.booleans(),
    norm=st.sampled_from(["", "before", "behind"]), affine=st.booleans(),
)  # fmt: skip
def test_any_network_of_plain_vectors_equals_the_module(seed, widths, bias, norm, affine):
    layers: list[nn.Module] = []
    for fed, made in zip((5, *widths), widths, strict=False):
        norms = [nn.BatchNorm1d(made, affine=affine)] if norm else []
        gate = [*norms, nn.ReLU()] if norm == "before" else [nn.ReLU(), *norms]
        layers += [nn.Linear(fed, made, bias=bias), *gate]
    layers += [nn.Linear(widths[-1], 3)]
    network = assert_same(shaken(nn.Sequential(*layers), seed), pictures(seed, 5))
    assert list(network.units.values()) == widths


POOLED = {
    "max": (lambda x: F.max_pool2d(x, 2), 12),
    "max with words": (lambda x: F.max_pool2d(input=x, kernel_size=3, stride=2, padding=1, ceil_mode=True), 27),
    "max of torch": (lambda x: torch.max_pool2d(x, 2, 1), 27),
    "adaptive max": (lambda x: F.adaptive_max_pool2d(x, (1, 2)), 6),
    "mean of torch": (lambda x: torch.mean(x, (2, 3)), 3),
    "mean": (lambda x: x.mean([2, 3]), 3),
    "mean kept": (lambda x: x.mean(dim=(-2, -1), keepdim=True), 3),
    "mean of rows": (lambda x: x.mean(-1), 12),
    "max along the pixels": (lambda x: F.max_pool1d(x.flatten(2), 3, 2), 21),
    "average along the pixels": (lambda x: F.avg_pool1d(x.flatten(2), 3, padding=1), 18),
    "adaptive along the pixels": (lambda x: F.adaptive_avg_pool1d(x.flatten(2), 3), 9),
    "adaptive max along the pixels": (lambda x: F.adaptive_max_pool1d(x.flatten(2), 5), 15),
}


@pytest.mark.parametrize("first", ["pool", "ReLU"])
@pytest.mark.parametrize("form", POOLED)
def test_functional_pools_and_means_equal_the_module(form: str, first: str) -> None:
    pool, features = POOLED[form]

    def function(x: Tensor) -> Tensor:
        return (F.relu(pool(x)) if first == "pool" else pool(F.relu(x))).flatten(1)

    network = assert_same(shaken(Applied(function, features), 4), pictures(5, 2, 6, 6))
    assert network.units == {"conv": 3}


def test_a_pool_over_reshaped_units_mixes_them_and_no_score_acts() -> None:
    def mixed(x: Tensor) -> Tensor:
        return F.relu(F.avg_pool2d(x.view(x.size(0), 2, 6, 4), (3, 4))).flatten(1)

    def apart(x: Tensor) -> Tensor:
        return F.avg_pool2d(F.relu(x).view(x.size(0), 6, 2, 4), 2).flatten(1) + 1

    with pytest.raises(ValueError, match="'conv': 'avg_pool2d' reads its pre-activations before a ReLU"):
        assert_same(shaken(Applied(mixed, 4), 4), pictures(5, 2, 6, 6))
    assert assert_same(shaken(Applied(apart, 12), 4), pictures(5, 2, 6, 6)).units == {"conv": 3}


class Weighted(nn.Module):
    """Weights of its own, used by functions."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor], features: int) -> None:
        super().__init__()
        self.square, self.line = nn.Parameter(torch.rand(4, 1, 2, 2)), nn.Parameter(torch.rand(4, 2, 3))
        self.full, self.bias = nn.Parameter(torch.rand(4, 16)), nn.Parameter(torch.rand(4))
        self.norm, self.out, self.function = nn.Linear(features, 5), nn.Linear(5, 3), function

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.norm(torch.relu(self.function(self, x)).flatten(1))))


WEIGHTED = {
    "conv2d": (lambda m, x: F.conv2d(x, m.square, m.bias, stride=(1, 2), padding=1, dilation=2), 4 * 4 * 2),
    "grouped conv2d": (lambda m, x: F.conv2d(torch.cat([x, x], 1), m.square, groups=2), 36),
    "conv1d": (lambda m, x: F.conv1d(x.reshape(x.size(0), 2, 8), m.line, padding="same"), 32),
    "linear": (lambda m, x: F.linear(x.flatten(1), m.full, bias=m.bias), 4),
    "linear of another layer": (lambda m, x: F.linear(x.flatten(1), m.full * 2), 4),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("form", WEIGHTED)
def test_functions_with_weights_equal_the_module_but_have_no_layer_to_score(form: str) -> None:
    function, features = WEIGHTED[form]
    network = assert_same(shaken(Weighted(function, features), 1), pictures(2, 1, 4, 4))
    assert network.units == {"norm": 5}
    (reason,) = network.unscored.values()
    assert "no layer to prune" in reason
