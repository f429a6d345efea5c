"""Ways of units: which layers are scored, where their gates act, and why others are not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from formulation import InvalidModel, outline
from formulation.lowering import differentiable
from tests.formulation.lowering.derivatives.smooth_cases import (
    SMOOTH,
    Attended,
    Case,
    GatedTokens,
    Modulated,
    Tokens,
    function_attention,
    gated_units,
    hardswish_excited,
    smooth,
    tokens,
)
from training import prune, unfollowed

IMAGES = torch.rand(2, 3)


@pytest.mark.parametrize("name", sorted(SMOOTH))
def test_outputs_are_neither_scored_nor_missed(name: str) -> None:
    case = SMOOTH[name][0](0)
    network = differentiable(case.model, case.images)
    last = [n for n, layer in case.model.named_modules() if isinstance(layer, nn.Linear)][-1]
    assert last not in network.units
    assert last not in network.unscored


# Scored, and behind what does not keep 0, a norm over several units, or a part of them: `score` names them.
NOT_REMOVED = {
    "gelu and sigmoid": {"2"},
    "group norm": {"0"},
    **{name: {"first"} for name in ("slice", "chunk", "slice of what lies beside")},
}
REMOVED: dict[str, Callable[[], Case]] = {
    "attention as a function": function_attention,
    "gated linear units": gated_units,
    "scaled": lambda: smooth(0, Modulated(shifted=False), (1, 3, 3)),
    "scaled and shifted": lambda: smooth(0, Modulated(shifted=True), (1, 3, 3)),
    "attention on pixels": lambda: smooth(0, Attended(), (1, 3, 3)),
    "gated linear units on tokens": lambda: smooth(0, GatedTokens(), (2, 3)),
}


@pytest.mark.parametrize("name", [*SMOOTH, *REMOVED])
def test_what_is_scored_can_be_removed_or_has_a_reason_or_is_of_the_kinds_that_are_named(name: str) -> None:
    case = REMOVED[name]() if name in REMOVED else SMOOTH[name][0](0)
    network = differentiable(case.model, case.images)
    assert set(unfollowed(case.model, case.images, network.units)) == NOT_REMOVED.get(name, set())
    masks = {layer: np.arange(n) % 3 != 1 for layer, n in network.units.items()}
    masks |= {layer: np.ones(network.units[layer], bool) for layer in NOT_REMOVED.get(name, ())}
    removed = {layer: mask for layer, mask in masks.items() if not mask.all()}
    made = prune(case.model, removed, case.images)(case.images) if removed else case.model(case.images)
    found = network.evaluate(case.images.flatten(1).numpy().T, masks)
    np.testing.assert_allclose(found, made.detach().numpy().T, rtol=1e-9, atol=1e-9)


def test_a_layer_whose_units_are_scaled_by_what_does_not_go_with_them_has_a_reason() -> None:
    case = REMOVED["scaled and shifted"]()
    network = differentiable(case.model, case.images)
    assert list(network.units) == ["again"]
    assert "'mul'" in network.unscored["conv"]
    assert outline(case.model, case.images).unscored == network.unscored
    case = REMOVED["scaled"]()
    both = differentiable(case.model, case.images)
    assert "conv" in {member for layer in both.layers for member in (layer.name, *layer.others)}


def test_on_tokens_both_layers_of_a_gated_unit_have_one_score() -> None:
    case = REMOVED["gated linear units on tokens"]()
    network = differentiable(case.model, case.images)
    assert {layer.name: layer.others for layer in network.layers} == {"unit.value": ("unit.gate",), "unit.back": ()}
    assert network.unscored == {}


def test_units_that_scale_others_are_one_unit_with_these() -> None:
    case = hardswish_excited()
    network = differentiable(case.model, case.images)
    assert {layer.name: layer.others for layer in network.layers} == {"0": ("2.excite",), "2.squeeze": ()}
    case = gated_units()
    network = differentiable(case.model, case.images)
    assert {layer.name: layer.others for layer in network.layers} == {"0.value": ("0.gate",), "0.back": ()}
    assert network.unscored == {}


def test_what_a_sum_or_attention_reads_without_an_activation_has_no_score_of_its_own() -> None:
    unscored = differentiable(tokens().model, tokens().images).unscored
    assert set(unscored) == {"patches", "block.attention.out_proj", "block.narrow"}
    assert "before any activation" in unscored["block.narrow"]
    case = function_attention()
    network = differentiable(case.model, case.images)
    assert list(network.units) == ["enter"]
    assert set(network.unscored) == {"query", "key", "value"}


class Mixed(nn.Module):
    """One branch ends in an operation of which nothing can be said."""

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.sorted, self.last = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.cat([F.gelu(self.plain(x)), torch.sort(self.sorted(x), dim=1).values], 1))


def test_an_operation_of_which_nothing_can_be_said_blocks_only_what_reaches_it() -> None:
    network = differentiable(Mixed().eval(), IMAGES)
    assert list(network.units) == ["plain"]
    assert list(network.unscored) == ["sorted"]


class Bent(nn.Module):
    """An activation function of one's own."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.erf(x) * torch.log1p(x * x)


def test_an_activation_of_ones_own_is_found_by_trying_it() -> None:
    assert list(differentiable(nn.Sequential(nn.Linear(3, 4), Bent(), nn.Linear(4, 2)).eval(), IMAGES).units) == ["0"]


def test_a_softmax_over_units_is_one_of_theirs_and_one_at_the_output_is_left_out() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Softmax(1), nn.Linear(4, 2)).eval()
    ended = nn.Sequential(*model, nn.Softmax(dim=1)).eval()
    network, other = differentiable(model, IMAGES), differentiable(ended, IMAGES)
    assert list(network.units) == list(other.units) == ["0"]
    pixels = IMAGES.double().numpy().T
    assert abs(network.evaluate(pixels) - other.evaluate(pixels)).max() == 0


class Twice(nn.Module):
    """One layer called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.again, self.other, self.last = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.silu(self.other(F.silu(self.again(F.silu(self.again(x)))))))


def test_a_layer_that_serves_two_places_is_left_alone() -> None:
    network = differentiable(Twice().eval(), IMAGES)
    assert list(network.units) == ["other"]
    assert "called 2 times" in network.unscored["again"]


class SequenceFirst(nn.Module):
    """Tokens before images."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.first(x)).transpose(0, 1)
        return self.last(F.gelu(self.second(x)).mean(0))


def test_a_layer_that_does_not_see_the_images_first_is_left_alone() -> None:
    network = differentiable(SequenceFirst().eval(), torch.rand(2, 5, 3))
    assert list(network.units) == ["first"]
    assert "batch does not come first" in network.unscored["second"]


def test_nothing_to_score_is_said_with_the_reasons() -> None:
    class Sorted(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sort(x, dim=1).values

    with pytest.raises(InvalidModel, match=r"nothing to score: '0': .* before any activation"):
        differentiable(nn.Sequential(nn.Linear(3, 4), Sorted(), nn.Linear(4, 2)).eval(), IMAGES)


def test_a_class_token_and_position_embeddings_are_followed() -> None:
    class WithToken(Tokens):
        def __init__(self) -> None:
            super().__init__()
            self.token, self.places = nn.Parameter(torch.rand(1, 1, 4)), nn.Parameter(torch.rand(1, 5, 4))

        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.places
            return self.head(self.block(x)[:, 0])

    network = differentiable(WithToken().eval(), torch.rand(1, 1, 4, 4))
    assert list(network.units) == ["block.attention", "block.widen"]


class Residual(nn.Module):
    """A sum ties the first layer to the third, a depthwise convolution carries the fourth's units."""

    def __init__(self) -> None:
        super().__init__()
        self.c1, self.c2, self.c3 = nn.Conv2d(1, 3, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)
        self.wide, self.deep, self.last = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 5, 3, groups=5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.c1(x))
        x = F.gelu(self.c3(F.gelu(self.c2(x))) + x)
        return self.last(F.gelu(self.deep(F.gelu(self.wide(x)))).mean((2, 3)))


def test_layers_whose_units_are_tied_have_one_gate_where_the_ways_of_all_end() -> None:
    network = differentiable(Residual().eval(), torch.rand(1, 1, 4, 4))
    assert network.units == {"c1": 3, "c2": 4, "wide": 5}
    assert {layer.name: layer.others for layer in network.layers} == {"c1": ("c3",), "c2": (), "wide": ("deep",)}
    assert network.unscored == {}
