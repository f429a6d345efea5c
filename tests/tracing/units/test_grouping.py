"""Groups of units in networks whose ties are known by hand, and in torchvision's."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from tests.training.networks import Bypassed, Forked, Functional, Inverted, Residual, example
from tracing import trace
from tracing.units import Reader, UnitGroups, unit_groups


def groups_of(model: nn.Module, images: Tensor | None = None) -> UnitGroups:
    return unit_groups(trace(model, example(model) if images is None else images).fitting())


def layers_of(found: UnitGroups) -> dict[str, tuple[str, ...]]:
    return {name: group.members for name, group in found.groups.items()}


def test_a_sum_ties_what_lies_in_one_place_of_both_its_operands() -> None:
    found = groups_of(Residual())
    assert layers_of(found) == {"first": ("first", "second")}
    assert found.owner == {"first": "first", "second": "first"}
    assert found.groups["first"].coupled
    assert {(end.source.op.name, end.reader.target) for end in found.groups["first"].ends} == {
        ("relu", "second"),
        ("add", "output"),
    }


def test_a_sum_with_pixels_ties_nothing_and_ends_the_way() -> None:
    found = groups_of(Bypassed())
    assert layers_of(found) == {"first": ("first",), "second": ("second",)}
    assert found.groups["second"].summed
    assert not found.groups["second"].coupled


def test_the_output_is_no_group_and_says_why() -> None:
    found = groups_of(Functional())
    assert set(found.reasons) == {"left", "right"}
    assert "gated by no ReLU: 'add' (add) reads them first" in found.reasons["left"]


def test_depthwise_convolutions_and_linear_bottlenecks_are_carried_and_tied() -> None:
    found = groups_of(Inverted(each=2))
    assert layers_of(found) == {
        "stem": ("stem", "first_narrow"),
        "first_wide": ("first_wide", "first_deep"),
        "last": ("last",),
    }
    assert found.groups["first_wide"].depthwise == (Reader("first_deep", 2),)
    assert all(group.coupled for group in found.groups.values())


def test_a_relu_that_alone_reads_a_layer_is_its_gate() -> None:
    found = groups_of(Forked())
    assert {name: group.gate is not None for name, group in found.groups.items()} == dict.fromkeys(
        ("first", "left", "right", "after"), True
    )


class Shapes(nn.Module):
    """Two maps that the given function joins before a last layer reads them."""

    def __init__(self, join: Callable[[Tensor, Tensor, Tensor], Tensor], features: int = 4) -> None:
        super().__init__()
        self.join, self.a, self.b = join, nn.Conv2d(2, 4, 1), nn.Conv2d(2, 4, 1)
        self.c, self.last = nn.Conv2d(2, 8, 1), nn.Conv2d(features, 3, 1)
        self.output = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(torch.relu(self.last(self.join(self.a(x), self.b(x), self.c(x)))).mean((2, 3)))


@pytest.mark.parametrize(
    ("join", "features", "layers"),
    [
        (lambda a, b, c: a + b, 4, {"a": ("a", "b")}),
        (lambda a, b, c: torch.relu(a).add_(b), 4, {"a": ("a", "b")}),
        (lambda a, b, c: torch.cat([a, b], 1) + torch.cat([b, a], 1), 8, {"a": ("a", "b")}),
        (lambda a, b, c: a + b.mean((2, 3), keepdim=True), 4, {}),  # of one place only
        (lambda a, b, c: torch.cat([a, b], 1) + c, 8, {}),  # half of c's units belong to each
        (lambda a, b, c: a - b, 4, {}),
        (lambda a, b, c: c[:, :4] + a, 4, {}),
        (lambda a, b, c: torch.relu(a) + torch.sigmoid(b), 4, {"a": ("a",)}),
        (lambda a, b, c: torch.cat([a, torch.relu(b)], 1), 8, {"a": ("a",), "b": ("b",)}),
        (lambda a, b, c: c.chunk(2, 1)[0] * 2, 4, {}),
    ],
)
def test_what_sums_and_slices_do_to_units(
    join: Callable[..., Tensor], features: int, layers: dict[str, tuple[str, ...]]
) -> None:
    found = groups_of(Shapes(join, features), torch.rand(1, 2, 3, 3))
    assert {name: group for name, group in layers_of(found).items() if name != "last"} == layers
    assert set(found.reasons) | set(found.owner) <= {"a", "b", "c", "last", "output"}


def test_a_group_that_reaches_the_output_is_given_up_and_its_layers_stand_alone() -> None:
    class Open(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            a = torch.relu(self.a(x))
            return self.c(a) + torch.relu(self.b(a))

    found = groups_of(Open(), torch.rand(1, 3))
    assert layers_of(found) == {"a": ("a",), "b": ("b",)}
    assert found.groups["b"].summed
    assert set(found.reasons) == {"c"}


MEMBERS = {  # groups, layers in them, layers of the largest: by the papers' tables
    "resnet18": (12, 20, 3),
    "resnet50": (37, 53, 7),
    "mobilenet_v2": (25, 52, 4),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_every_layer_of_torchvisions_residual_networks_but_the_last_is_in_a_group(name: str) -> None:
    found = groups_of(getattr(torchvision.models, name)(num_classes=10).eval(), torch.rand(1, 3, 32, 32))
    largest = max(len(group.members) for group in found.groups.values())
    assert (len(found.groups), len(found.owner), largest) == MEMBERS[name]
    assert len(found.reasons) == 1
