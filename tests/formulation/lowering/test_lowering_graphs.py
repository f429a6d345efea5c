"""Oracle 1 on networks that are no chains: sums, concatenations, branches, constants behind a gate, and their masks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from formulation import InvalidModel, Network, lower
from formulation.network import INPUT, Add, Affine, ChannelGate, MaxPool, Relu, Shift, with_relu_gates
from tests.formulation.cases import (
    Case,
    batchnorm_after_relu,
    concatenated,
    conv1d_series,
    conv_pool,
    densely_connected,
    inverted,
    leaky,
    max_pooled,
    moved,
    random_masks,
    residual,
    tabular,
)
from tests.formulation.lowering.test_lowering import assert_same, pictures, shaken
from tests.formulation.oracles import repeatable

CASES: dict[str, Callable[..., Case]] = {
    "residual": residual,
    "inverted": inverted,
    "densely connected": densely_connected,
    "leaky": leaky,
    "moved": moved,
    "concatenated": concatenated,
    "max-pooled": max_pooled,
    "series": conv1d_series,
    "tabular": tabular,
    "norm behind the gate": batchnorm_after_relu,
    "average-pooled": conv_pool,
}


@repeatable
@given(
    case=st.sampled_from(sorted(CASES)), seed=st.integers(0, 50), draw=st.integers(0, 1000), keep=st.floats(0.1, 0.9)
)
def test_a_mask_in_the_network_is_a_mask_at_torchs_gates(case: str, seed: int, draw: int, keep: float) -> None:
    made = CASES[case](seed)
    network = lower(made.model, made.images)
    assert set(network.units) == set(made.gates)
    masks = random_masks(network.units, np.random.default_rng(draw), keep)
    np.testing.assert_allclose(network.evaluate(made.pixels, masks), made.masked_logits(masks), atol=1e-10)
    np.testing.assert_allclose(network.evaluate(made.pixels), made.model(made.images).detach().numpy().T, atol=1e-10)


class Joined(nn.Module):
    """Two convolutions of the image, joined by the given function, ReLU, Linear."""

    def __init__(self, join: Callable[..., Tensor], features: int = 4 * 9) -> None:
        super().__init__()
        self.a, self.b, self.relu = nn.Conv2d(1, 2, 2), nn.Conv2d(1, 2, 2), nn.ReLU()
        self.norm, self.out = nn.BatchNorm2d(4), nn.Linear(features, 3)
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.join(self, self.a(x), self.b(x)).flatten(1))


def operations(network: Network) -> list[str]:
    return [type(node.op).__name__ for node in network.nodes]


JOINS = {
    "one ReLU for both": (lambda m, a, b: m.relu(torch.cat([a, b], 1)), {"a": 2, "b": 2}),
    "a ReLU each": (lambda m, a, b: torch.cat((m.relu(a), torch.relu(b)), dim=1), {"a": 2, "b": 2}),
    "one gated before": (lambda m, a, b: m.relu(torch.cat(tensors=[m.relu(a), b], dim=-3)), {"a": 2, "b": 2}),
    "one without a ReLU": (lambda m, a, b: torch.concat([m.relu(a), b], axis=1), {"a": 2, "b": 2}),
    "norm behind one gate": (lambda m, a, b: m.norm(torch.cat([m.relu(a), b], 1)), {"a": 2, "b": 2}),
    "norm before one ReLU": (lambda m, a, b: m.relu(m.norm(torch.cat([a, b], 1))), {"a": 2, "b": 2}),
    "flattened first": (
        lambda m, a, b: torch.concatenate([m.relu(a).flatten(1), m.relu(b).flatten(1)], 1),
        {"a": 2, "b": 2},
    ),
    "the same twice": (lambda m, a, b: m.relu(torch.cat([a, a], 1)), {"a": 2}),
    "constants behind one ReLU": (lambda m, a, b: m.relu(torch.cat([a, b], 1)) * 0.5 + 1, {"a": 2, "b": 2}),
}  # fmt: skip


@pytest.mark.parametrize("join", JOINS)
def test_concatenations_equal_the_module_and_keep_their_units(join: str) -> None:
    function, units = JOINS[join]
    network = assert_same(shaken(Joined(function), 3), pictures(4, 1, 4, 4))
    assert network.units == units


SUMS = {
    "operator": lambda m, a, b: m.relu(a) + m.relu(b),
    "function": lambda m, a, b: torch.add(m.relu(a), torch.relu(b)),
    "method": lambda m, a, b: m.relu(a).add(m.relu(b)),
    "three": lambda m, a, b: sum([m.relu(a), m.relu(b), 0.5 * torch.relu(a * 1)]),
    "with itself": lambda m, a, b: (lambda h: h + h)(m.relu(a)) + m.relu(b),
    "constant behind it": lambda m, a, b: (m.relu(a) + m.relu(b)) * 2 - 1,
}


def added_in_place(m: Joined, a: Tensor, b: Tensor) -> Tensor:
    h = m.relu(a)
    h += torch.relu(b)
    return h


@pytest.mark.parametrize("form", [*SUMS, "in place"])
def test_sums_equal_the_module(form: str) -> None:
    function = added_in_place if form == "in place" else SUMS[form]
    network = assert_same(shaken(Joined(function, 2 * 9), 3), pictures(4, 1, 4, 4))
    assert "Add" in operations(network)
    assert network.units == ({"a": 2, "b": 2} if form == "constant behind it" else {"a": 2})
    assert not network.unscored


def test_a_group_is_gated_where_it_is_handed_on_and_a_relu_behind_a_sum_gates_nothing() -> None:
    made = residual()
    network = lower(made.model, made.images)
    assert network.units == {"0": 2, "3.first": 2, "4.first": 3, "4.second": 3}
    assert {each.name: each.others for each in network.layers if each.others} == {
        "0": ("3.second",),
        "4.second": ("4.way",),
    }
    assert not network.unscored
    last = next(node.op for node in network.nodes if node.name == "3.last")
    assert isinstance(last, Relu)
    assert (last.score == -1).all()
    gates = {node.source: node.op for node in network.nodes if isinstance(node.op, ChannelGate)}
    assert len(gates) == 3
    for source in ("2", "3.last"):
        np.testing.assert_array_equal(gates[source].score, np.repeat([0, 1], 16))


@pytest.mark.parametrize("build", [residual, inverted, densely_connected, leaky], ids=lambda each: each.__name__)
def test_gates_taken_apart_into_relus_are_the_same_network_at_every_score(build: Callable[..., Case]) -> None:
    made = build(1)
    network = lower(made.model, made.images)
    scores = {name: np.random.default_rng(0).random(units) for name, units in network.units.items()}
    apart = with_relu_gates(network)
    assert "ChannelGate" in operations(network)
    assert "ChannelGate" not in operations(apart)
    assert apart.layers == network.layers
    np.testing.assert_allclose(
        apart.evaluate(made.pixels, scores), network.evaluate(made.pixels, scores), rtol=0, atol=1e-12
    )
    assert with_relu_gates(apart) is apart


def test_every_node_comes_after_its_sources_and_under_a_name_of_its_own() -> None:
    for build in CASES.values():
        made = build()
        network = lower(made.model, made.images)
        sizes = {INPUT: network.inputs}
        for node in network.nodes:
            assert node.name not in sizes
            read = [sizes[name] for name in node.sources]
            sizes[node.name] = node.size
            match node.op:
                case Affine(weight, bias):
                    assert weight.shape == (node.size, *read)
                    assert bias.shape == (node.size,)
                case MaxPool(windows):
                    assert len(windows) == node.size
                    assert windows.max() < read[0]
                    assert (windows.max(axis=1) >= 0).all()
                case Add():
                    assert len(read) > 1
                    assert set(read) == {node.size}
                case Relu(score) | Shift(score) | ChannelGate(score):
                    assert read == [node.size] == [len(score)]
                    assert score.max() < sum(network.units.values())


class Peeked(nn.Module):
    """Two layers; `peek` may read the pre-activations of the first a second time."""

    def __init__(self, peek: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.Linear(4, 3), nn.Linear(3, 3), nn.Linear(3, 2)
        self.peek = peek

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.out(torch.relu(self.second(self.peek(y, torch.relu(y)))))


@pytest.mark.parametrize(
    "peek",
    [lambda y, h: y + h, lambda y, h: h + torch.relu(-1 * y), lambda y, h: y],
    ids=["beside its ReLU", "of either sign", "without a ReLU"],
)
def test_a_layer_whose_pre_activations_no_relu_alone_reads_is_gated_where_it_is_handed_on(peek) -> None:
    network = assert_same(shaken(Peeked(peek), 1), pictures(2, 4))
    assert network.units == {"first": 3, "second": 3}
    assert operations(network).count("ChannelGate") == 1


@pytest.mark.parametrize(
    ("peek", "reason"),
    [
        (lambda y, h: y + h - 1, "read by 2 operations: relu, add"),
        (lambda y, h: y + 1, "'second' reads its pre-activations before a ReLU"),
        (lambda y, h: y.flip(1), "'second' reads its pre-activations before a ReLU"),
    ],
    ids=["a constant behind the sum", "a constant", "another order"],
)
def test_a_layer_whose_units_cannot_be_followed_is_not_scored(peek, reason: str) -> None:
    network = assert_same(shaken(Peeked(peek), 1), pictures(2, 4))
    assert network.units == {"second": 3}
    assert reason in network.unscored["first"]


def test_a_network_in_which_nothing_is_scored_is_refused_with_the_reasons() -> None:
    class Moved(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return self[2](self[1](self[0](x) + 1) + 1)

    model = Moved(nn.Linear(4, 3), nn.Linear(3, 3), nn.Linear(3, 2)).eval()
    with pytest.raises(InvalidModel, match=r"nothing to score: '0': '1' reads .* before a ReLU; '1': '2' reads"):
        lower(model, pictures(0, 4))


class Headed(nn.Module):
    """A second head that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.aside, self.out = nn.Linear(4, 3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        torch.sigmoid(self.aside(h))
        return self.out(h)


def test_what_the_logits_do_not_need_is_not_lowered() -> None:
    network = assert_same(Headed(), pictures(0, 4))
    assert network.units == {"first": 3}
    assert len(network.nodes) == 3


def test_a_norm_folds_into_the_affine_map_before_it_but_not_where_others_read_that() -> None:
    chain = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 2))
    assert operations(assert_same(shaken(chain, 0), pictures(0, 4))) == ["Affine", "Relu", "Affine"]
    aside = shaken(Joined(lambda m, a, b: m.relu(a * 2 + 1) + a + m.relu(b), 2 * 9), 0)
    network = assert_same(aside, pictures(0, 1, 4, 4))
    assert network.units == {"b": 2}
    assert operations(network).count("Affine") == 4


def test_a_norm_behind_a_gate_is_a_scale_and_a_shift() -> None:
    made = batchnorm_after_relu()
    network = lower(made.model, made.images)
    assert operations(network) == [
        "Affine", "Relu", "Affine", "Shift", "MaxPool", "Affine", "Relu", "Affine", "Shift", "Affine",
    ]  # fmt: skip
    shift = next(node.op for node in network.nodes if isinstance(node.op, Shift))
    np.testing.assert_array_equal(shift.score, np.repeat(np.arange(3), 8))
    removed = network.evaluate(made.pixels, {"0": np.zeros(3), "5": np.zeros(5)})
    np.testing.assert_allclose(removed, np.tile(network.nodes[-1].op.bias[:, None], made.pixels.shape[1]))


def test_norms_without_an_affine_map_before_them_are_maps_of_their_own() -> None:
    model = nn.Sequential(
        nn.BatchNorm2d(1), nn.Conv2d(1, 2, 2), nn.MaxPool2d(2), nn.BatchNorm2d(2, affine=False), nn.ReLU(),
        nn.Flatten(), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2),
    )  # fmt: skip
    network = assert_same(shaken(model, 1), pictures(1, 1, 5, 5))
    assert network.units == {"1": 2}
    assert operations(network).count("Affine") == 5


def test_extreme_weights_are_kept_as_they_are() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).double().eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1e-12, 1e8], [1.0, -1e-12]]))
    weight = lower(model, torch.rand(1, 2)).nodes[0].op.weight
    np.testing.assert_array_equal(weight, model[0].weight.detach().numpy())


def test_a_layer_called_input_does_not_hide_the_images() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.input, self.skip, self.out = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(torch.relu(self.input(x)) + torch.relu(self.skip(x)))

    network = assert_same(shaken(Named(), 0), pictures(0, 3))
    assert network.units == {"input": 4}


def test_resnet18_of_torchvision_is_lowered() -> None:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    network = assert_same(resnet18(weights=None, num_classes=10), torch.rand(2, 3, 32, 32, dtype=torch.float64))
    inner = {f"layer{k}.{j}.conv1" for k in (1, 2, 3, 4) for j in (0, 1)}
    assert set(network.units) == {"conv1", *inner, *(f"layer{k}.0.conv2" for k in (2, 3, 4))}
    assert not network.unscored
