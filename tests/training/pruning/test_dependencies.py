from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from tests.training.networks import Bypassed, Forked, Functional, Inverted, Residual, Series, example, mixed
from tracing.units import Reader
from training.digests import model_digest
from training.errors import UnsupportedGraph
from training.pruning import prune
from training.pruning.compaction import compact
from training.pruning.dependencies import Links, consumers, summed_layers


def test_the_ways_through_norms_pools_and_flatten_are_found() -> None:
    links = consumers(mixed(), example(mixed()))
    assert links == {
        "0": Links("0", 6, (Reader("1", 1),), (Reader("4", 1),)),
        "4": Links("4", 8, (Reader("5", 1),), (Reader("9", 1),)),
        "9": Links("9", 7, (Reader("10", 1),), (Reader("13", 1),)),
    }


def test_a_feature_map_is_a_block_of_columns_after_flatten_and_may_have_two_readers() -> None:
    links = consumers(Functional(), torch.zeros(2, 1, 12, 12))
    assert links["first"].readers == (Reader("wide", 1), Reader("deep", 1))
    assert links["wide"].readers == (Reader("left", 36),)
    assert links["deep"].readers == (Reader("right", 36),)
    assert set(links) == {"first", "wide", "deep"}


def test_tracing_changes_neither_mode_nor_statistics() -> None:
    model = mixed().train()
    before = model_digest(model)
    consumers(model, example(model))
    assert model.training
    assert model_digest(model) == before


def test_a_norm_between_relu_and_reader_is_on_the_way() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(200), nn.Linear(200, 2))
    assert consumers(model, example(model))["0"].norms == (Reader("3", 100),)


def test_a_way_ends_in_a_sum_because_0_adds_nothing() -> None:
    links = consumers(Bypassed(), torch.zeros(1, 1, 2, 2))
    assert links["second"].readers == ()
    assert links["second"].summed
    assert not links["first"].summed


def test_a_sum_of_units_ties_them_and_is_passed_through() -> None:
    links = consumers(Residual(), torch.zeros(1, 1, 2, 2))
    assert links == {"first": Links("first", 3, (), (Reader("second", 1), Reader("output", 1)), tied=("second",))}


def test_a_depthwise_convolution_carries_the_units_that_it_reads() -> None:
    links = consumers(Inverted(each=2), torch.zeros(1, 1, 12, 12))
    assert set(links) == {"stem", "first_wide", "last"}
    assert links["first_wide"].norms == (Reader("first_norm", 1),)
    assert links["first_wide"].depthwise == (Reader("first_deep", 2),)
    assert links["first_wide"].readers == (Reader("first_narrow", 2),)
    assert links["stem"].tied == ("first_narrow",)


def test_units_lie_behind_those_concatenated_before_them() -> None:
    links = consumers(Forked(), torch.zeros(1, 1, 12, 12))
    assert links["left"] == Links("left", 3, (Reader("norm", 1),), (Reader("after", 1),))
    assert links["right"].norms == (Reader("norm", 1, 3),)
    assert links["right"].readers == (Reader("after", 1, 3), Reader("output", 25, 75))
    assert links["after"].readers == (Reader("output", 25),)


def test_a_reader_says_which_of_its_columns_the_units_are() -> None:
    spread = Reader("layer", 2, 3).spread(torch.tensor([True, False, True]), 10)
    assert spread.nonzero().ravel().tolist() == [3, 4, 7, 8]


def test_ways_along_one_axis_are_found() -> None:
    links = consumers(Series(), torch.zeros(1, 2, 11))
    assert links["first"] == Links("first", 4, (Reader("norm", 1),), (Reader("second", 1),))
    assert links["second"].readers == (Reader("output", 1),)


class Peeked(nn.Module):
    """Pre-activations that a sum reads beside the ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.output = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        return self.output(torch.relu(y) + y)


class Middle(nn.Module):
    """Convolution, ReLU, the given function, Linear."""

    def __init__(self, function: Callable[[nn.Module, Tensor], Tensor], features: int = 32) -> None:
        super().__init__()
        self.conv, self.output, self.function = nn.Conv2d(1, 2, 1), nn.Linear(features, 2), function
        self.constant = nn.Parameter(torch.ones(1, 2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.function(self, torch.relu(self.conv(x))).flatten(1))


@pytest.mark.parametrize(
    ("function", "features"),
    [
        (lambda m, h: h * m.constant, 32),
        (lambda m, h: 0.5 * h / 3, 32),
        (lambda m, h: sum([h, h]), 32),
        (lambda m, h: h.mean((2, 3)), 2),
        (lambda m, h: torch.mean(h, -1, keepdim=True), 8),
        (lambda m, h: functional.max_pool1d(h.flatten(2), 4), 8),
        (lambda m, h: functional.conv2d(h, m.constant), 16),
        (lambda m, h: h + 1, 32),
        (lambda m, h: h + m.constant, 32),
        (lambda m, h: h - 0.5, 32),
        (lambda m, h: h.mean(1), 16),
        (lambda m, h: torch.cat([h, h], 2), 64),
        (lambda m, h: h.transpose(1, 2).flatten(1), 32),
        (lambda m, h: functional.conv_transpose2d(h, m.constant.reshape(2, 1, 1, 1)), 16),
    ],
)
def test_what_hands_on_a_removed_units_0_is_followed_or_the_units_keep_their_places(
    function: Callable[..., Tensor], features: int
) -> None:
    model, images = Middle(function, features).eval(), torch.rand(2, 1, 4, 4)
    mask = {"conv": np.array([True, False])}
    gate = model.conv.register_forward_hook(lambda _, __, out: out * torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1))
    expected = model(images)
    gate.remove()
    torch.testing.assert_close(prune(model, mask, images)(images), expected)
    torch.testing.assert_close(compact(model, mask, images)(images), expected)


@pytest.mark.parametrize(
    ("function", "features", "operation"),
    [
        (lambda m, h: 1 / h, 32, "'truediv' .truediv"),
        (lambda m, h: functional.max_pool2d(h.flatten(2), 2), 8, "'max_pool2d'"),
        (lambda m, h: h.softmax(1), 32, "'softmax'"),
        (lambda m, h: functional.conv2d(h, m.conv.weight.reshape(1, 2, 1, 1)), 16, "shared by conv.weight"),
    ],
)
def test_what_mixes_units_or_moves_them_from_0_is_refused(
    function: Callable[..., Tensor], features: int, operation: str
) -> None:
    model = Middle(lambda m, h: function(m, h).reshape(-1, features), features)
    with pytest.raises(UnsupportedGraph, match=f"layer 'conv'.*{operation}"):
        consumers(model, torch.rand(1, 1, 4, 4), ["conv"])


@pytest.mark.parametrize(
    ("model", "name", "readers"),
    [
        (Peeked(), "layer", (Reader("output", 1),)),
        (nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2), nn.ReLU()), "0", (Reader("1", 1),)),
    ],
)
def test_units_that_no_relu_alone_reads_are_followed_to_their_readers(
    model: nn.Module, name: str, readers: tuple[Reader, ...]
) -> None:
    assert consumers(model, torch.rand(2, 4), [name])[name].readers == readers


def test_units_that_no_relu_gates_are_refused_where_they_are_added_to_others() -> None:
    with pytest.raises(UnsupportedGraph, match=r"layer 'layer' is gated by no ReLU: .* a sum with values"):
        consumers(Shifted(), torch.rand(2, 4), ["layer"])


class Shifted(nn.Module):
    """Pre-activations that are added to the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.output = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(torch.relu(self.layer(x) + x))


class Looping(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.output = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.layer(x.flatten(1)))
        return self.output(torch.relu(self.layer(x)))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.output = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.output(torch.relu(self.b(torch.relu(self.a(x.flatten(1))))))


def flat(*parts: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3), *parts)


class Aside(nn.Module):
    """A ReLU that writes over the pre-activations, and whose result nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.output = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        functional.relu_(y)
        return self.output(y)


def test_a_relu_in_place_reads_what_it_writes_over_although_nothing_uses_its_result() -> None:
    with pytest.raises(UnsupportedGraph, match=r"layer 'layer': 'relu_' .relu_. writes over 'layer', which"):
        consumers(Aside(), torch.rand(1, 4), ["layer"])


@pytest.mark.parametrize(
    ("model", "layers", "said"),
    [
        (Looping(), None, "Looping cannot be traced"),
        (Twice(), None, "layer 'layer' is called 2 times"),
        (Tied(), None, r"shared by a\.weight and b\.weight"),
        (flat(nn.ReLU()), None, "layer '1' reaches the model's output"),
        (flat(nn.ReLU(), nn.LayerNorm(3), nn.Linear(3, 2)), None, "'_3' .LayerNorm"),
        (flat(nn.ReLU(), nn.Softmax(1), nn.Linear(3, 2)), None, "Softmax"),
        (flat(nn.Sigmoid(), nn.Linear(3, 2)), ["1"], "layer '1': its units cannot be followed through '_2' .Sigmoid."),
        (flat(nn.ReLU(), nn.Linear(3, 2)), ["3"], "layer '3' reaches the model's output"),
        (flat(nn.ReLU(), nn.Linear(3, 2)), ["7"], "layer '7' is no Linear, Conv1d or Conv2d"),
        (
            nn.Sequential(nn.Flatten(), weight_norm(nn.Linear(4, 3)), nn.ReLU(), nn.Linear(3, 2)),
            ["1"],
            "'1' of the model",
        ),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(model: nn.Module, layers: list[str] | None, said: str) -> None:
    with pytest.raises(UnsupportedGraph, match=said) as caught:
        consumers(model, torch.zeros(1, 1, 2, 2), layers)
    assert "\n" not in str(caught.value)


class Joined(nn.Module):
    """Two layers whose outputs are joined, and a layer of its own behind them."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.one, self.other, self.inner, self.last = (nn.Linear(*sizes) for sizes in ((4, 6), (4, 6), (6, 5), (5, 2)))
        self.how = how
        if how == "side by side":
            self.inner = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a, b = torch.relu(self.one(x)), torch.relu(self.other(x))
        match self.how:
            case "sum":
                both = a + b
            case "difference":
                both = a - b
            case "product":
                both = a * b
            case _:
                both = torch.cat([a, b], 1)
        return self.last(torch.relu(self.inner(both)))


@pytest.mark.parametrize(
    ("how", "summed"), [("sum", ("one",)), ("difference", ()), ("product", ()), ("side by side", ())]
)
def test_layers_are_summed_where_their_outputs_meet_in_a_sum(how: str, summed: tuple[str, ...]) -> None:
    network, images = Joined(how).eval(), torch.rand(1, 4)
    layers = tuple(consumers(network, images))
    assert summed_layers(network, images, layers) == summed
    # Where all are summed none is named: nothing would be left to take units from.
    assert summed_layers(network, images, summed) == ()


def test_of_layers_that_cannot_be_followed_none_is_named() -> None:
    assert summed_layers(Joined("sum").eval(), torch.rand(1, 4), ["last", "inner"]) == ()
