"""Units that calls of several values tie: squeeze-and-excitation, gated linear units, swish written out, maxout."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.training.compacting import check
from tests.training.networks import drawn_masks, example, stir
from training.errors import UnsupportedGraph
from training.pruning import consumers, prune
from training.pruning.refit import refit


class Excited(nn.Module):
    """An inverted residual with squeeze-and-excitation between a depthwise and a narrow convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide, self.norm = nn.Conv2d(1, 3, 3, 2), nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6)
        self.deep, self.act = nn.Conv2d(6, 6, 3, 1, 1, groups=6), nn.SiLU(inplace=True)
        self.squeeze, self.excite = nn.Conv2d(6, 4, 1), nn.Conv2d(4, 6, 1)
        self.narrow, self.output = nn.Conv2d(6, 3, 1), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        wide = self.act(self.deep(self.act(self.norm(self.wide(x)))))
        scale = self.excite(functional.relu(self.squeeze(functional.adaptive_avg_pool2d(wide, 1))))
        x = x + self.narrow(functional.hardsigmoid(scale) * wide)
        return self.output(x.mean((2, 3)))


class GatedUnits(nn.Module):
    """value(x) silu(gate(x)), then x sigmoid(x), then its square."""

    input_shape = (5,)

    def __init__(self) -> None:
        super().__init__()
        self.value, self.gate, self.back, self.output = (
            *(nn.Linear(5, 4), nn.Linear(5, 4), nn.Linear(4, 6), nn.Linear(6, 2)),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.back(self.value(x) * functional.silu(self.gate(x)))
        x = x * torch.sigmoid(2 * x + 1)
        return self.output(x * x)


@pytest.mark.parametrize(
    ("kind", "groups"),
    [
        (Excited, {"stem": ["stem", "narrow"], "wide": ["wide", "excite", "deep"], "squeeze": ["squeeze"]}),
        (GatedUnits, {"value": ["value", "gate"], "back": ["back"]}),
    ],
)
def test_what_scales_units_goes_with_them(kind: type[nn.Module], groups: dict[str, list[str]]) -> None:
    torch.manual_seed(0)
    model = stir(kind(), 0)
    links = consumers(model, example(model))
    assert {name: [each.layer for each in link.members] for name, link in links.items()} == groups
    check(model)


class Product(nn.Module):
    """Two layers' units, joined by a function."""

    input_shape = (3,)

    def __init__(self, join: object) -> None:
        super().__init__()
        self.a, self.b, self.last, self.join = nn.Linear(3, 4), nn.Linear(3, 4), nn.Linear(4, 2), join

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.join(self.a(x), self.b(x)))


@pytest.mark.parametrize(
    "join",
    [
        lambda a, b: torch.sigmoid(a) * torch.sigmoid(b),  # neither is 0 where its unit is removed
        lambda a, b: a * torch.softmax(b, 1),  # the scale of a unit depends on the others
        lambda a, b: a * torch.sigmoid(b).flip(1),  # unit j scales another
        lambda a, b: a / b,
    ],
)
def test_products_of_which_this_is_not_so_tie_nothing(join: object) -> None:
    model = Product(join).eval()
    with pytest.raises(UnsupportedGraph, match="layer 'a': its units cannot be followed"):
        consumers(model, example(model), ["a"])


@pytest.mark.parametrize(
    "join",
    [
        torch.maximum,
        torch.hypot,
        lambda a, b: torch.where(a > 0, a, b),
        lambda a, b: torch.where(a >= 0, torch.sin(b), 0.1 * a),
        lambda a, b: torch.lerp(a, b, torch.sigmoid(a)),
    ],
)
def test_what_is_taken_entry_by_entry_goes_together(join: object) -> None:
    model = Product(join).eval()
    links = consumers(model, example(model))
    assert {name: [each.layer for each in link.members] for name, link in links.items()} == {"a": ["a", "b"]}
    check(model)


@pytest.mark.parametrize(
    "join",
    [
        lambda a, b: torch.maximum(a, b.flip(1)),  # unit j meets another
        lambda a, b: torch.maximum(a, torch.softmax(b, 1)),
        lambda a, b: torch.where(a >= 0, torch.cos(b), a),  # 1 where both are gone
        lambda a, b: torch.cross(a[:, :3], b[:, :3], dim=1).repeat(1, 2)[:, :4],
    ],
)
def test_calls_that_mix_units_or_keep_no_0_tie_nothing(join: object) -> None:
    model = Product(join).eval()
    with pytest.raises(UnsupportedGraph, match="layer 'a'"):
        consumers(model, example(model), ["a"])


@pytest.mark.parametrize("kind", [Excited, GatedUnits])
def test_survivors_beside_removed_products_are_refitted(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = stir(kind(), 0)
    images = example(model, 60)
    masks = drawn_masks(model, list(consumers(model, images)), 0)
    with torch.no_grad():
        expected, cut = model(images), prune(model, masks, images[:1])(images)
        fitted = refit(model, masks, images)(images)
    assert float((fitted - expected).norm()) < float((cut - expected).norm())
