"""A differentiated network as the program's: what is refused, and that one read in another way is the same."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor, nn

from formulation import InvalidImages, InvalidModel, UnsupportedLayer, lower, outline
from formulation.embed import embed
from formulation.lowering import differentiable, read_network
from formulation.lowering.derivatives import network_reading
from tests.formulation.cases import SMALL
from tests.formulation.lowering.derivatives.smooth_cases import SMOOTH, tokens

# `outline` is a function of the package, which hides its module.
outline_room = sys.modules[outline.__module__]


class Centred(nn.Module):
    """Every image less the mean over the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.gelu(self.first(x))
        return self.last(x - x.mean(0, keepdim=True))


def test_logits_that_depend_on_other_images_are_refused() -> None:
    with pytest.raises(UnsupportedLayer, match="must depend on it alone"):
        differentiable(Centred().eval(), torch.rand(2, 3))


@pytest.mark.parametrize(
    ("model", "images", "error", "said"),
    [
        (tokens().model.train(), torch.rand(1, 1, 4, 4), InvalidModel, "training mode"),
        (tokens().model.eval(), torch.rand(1, 3, 4, 4), InvalidImages, "check the image size"),
        (
            nn.Sequential(nn.Conv2d(1, 2, 1), nn.GELU()).eval(),
            torch.rand(1, 1, 4, 4),
            InvalidModel,
            "one tensor of l",
        ),
    ],
)
def test_what_no_network_can_be_made_of_is_said(
    model: nn.Module, images: Tensor, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        differentiable(model, images)


def test_what_can_be_lowered_is_lowered_and_what_cannot_is_differentiated_for_linear_alone() -> None:
    dense, smooth = SMALL["dense"](), tokens()
    assert read_network(dense.model, dense.images, "linear").differentiable is None
    assert read_network(dense.model, dense.images, "linear", "autograd").differentiable is not None
    assert read_network(smooth.model, smooth.images, "linear").differentiable is not None
    for gate, derivatives in (("pattern", "auto"), ("linear", "lowering")):
        with pytest.raises(UnsupportedLayer):
            read_network(smooth.model, smooth.images, gate, derivatives)


def test_where_neither_way_finds_units_what_derivatives_lack_is_said() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.output = nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            left, right = x.chunk(2, 1)
            return self.output(torch.tanh(self.layer(left)) - torch.tanh(self.layer(right)))

    with pytest.raises(InvalidModel, match="nothing to score: 'layer': it is called 2 times"):
        read_network(Twice().eval(), torch.rand(2, 8), "linear")
    with pytest.raises(UnsupportedLayer):
        read_network(Twice().eval(), torch.rand(2, 8), "pattern")


@pytest.mark.parametrize("name", sorted(SMOOTH))
def test_the_outline_is_that_of_the_network(name: str) -> None:
    case = SMOOTH[name][0](0)
    network, found = differentiable(case.model, case.images), outline(case.model, case.images)
    assert (found.units, found.unscored, found.first_order) == (network.units, network.unscored, True)
    with pytest.raises((UnsupportedLayer, InvalidModel)):
        outline(case.model, case.images, "pattern")


def test_an_embedding_needs_a_lowered_network() -> None:
    case = tokens()
    network = differentiable(case.model, case.images)
    from linopy import Model

    model = Model()
    pixels = model.add_variables(0.0, 1.0, coords=[("pixel", range(16))], name="pixels")
    with pytest.raises(InvalidModel, match="needs a lowered network"):
        embed(model, network, pixels, name="net")


def test_held_layers_keep_their_gates_at_1() -> None:
    case = SMOOTH["gelu and sigmoid"][0](0)
    network = differentiable(case.model, case.images)
    held = network.holding(["0"])
    assert list(held.units) == ["2"]
    masks = {"2": [0.0, 1.0, 0.0, 1.0]}
    both = network.evaluate(case.pixels, {"0": [1.0] * 4, **masks})
    assert (held.evaluate(case.pixels, masks) == both).all()
    assert lower(SMALL["dense"]().model, SMALL["dense"]().images).differentiable is None


def test_what_would_be_large_when_lowered_is_differentiated_and_scores_the_same_layers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = SMALL["residual"]()
    small = read_network(case.model, case.images, "linear")
    entries = 4 * 4 * (9 * 2 + 2 * 9 * 4) + 2 * 2 * (9 * 6 + 9 * 9 + 6)  # stem and first block, then the second
    with pytest.raises(UnsupportedLayer, match=f"matrices have {entries:,} entries; at most {entries - 1:,}"):
        lower(case.model, case.images, most_entries=entries - 1)
    for room in (network_reading, outline_room):
        monkeypatch.setattr(room, "LOWERED_ENTRIES", entries - 1)
    large = read_network(case.model, case.images, "linear")
    assert small.differentiable is None
    assert large.differentiable is not None
    assert large.layers == small.layers
    assert outline(case.model, case.images).first_order
    assert not outline(case.model, case.images, "pattern").first_order
