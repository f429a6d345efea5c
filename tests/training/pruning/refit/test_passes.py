"""Passes up to a layer: what is handed on from earlier ones is what a pass of its own makes, no layer twice."""

from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from training.pruning.refit import passes as passes_module
from training.pruning.refit import passes_over
from training.pruning.refit.passes import MemoryBudget

IMAGES = torch.rand(13, 2, 6, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


class Written(nn.Module):
    """A residual network that writes over what layers emit, calls one layer twice and turns its batch round."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.shared, self.last = nn.Linear(36, 36), nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        found = functional.relu_(self.first(images))
        found += self.second(found).mul_(0.5)
        tokens = found.flatten(2).transpose(0, 1)  # channels first
        tokens = self.shared(self.shared(tokens).sin_()).cos_()
        return self.last(tokens.mean(2).T)


def network_and_calls() -> tuple[nn.Module, Counter[str]]:
    """The network, and how often each layer has computed something."""
    network, calls = Written().double().eval(), Counter[str]()
    for name in ("first", "second", "shared", "last"):
        layer = network.get_submodule(name)

        class Counted(type(layer)):  # type: ignore[misc]
            asked = name

            def forward(self, given: Tensor) -> Tensor:
                calls[self.asked] += 1
                return super().forward(given)

        layer.__class__ = Counted
    return network, calls


def alone(name: str) -> tuple[Tensor, Tensor]:
    """What a layer reads and emits in one pass over all images."""
    network, seen = Written().double().eval(), []
    network.get_submodule(name).register_forward_hook(
        lambda _, given, made: seen.append((given[0].clone(), made.clone()))
    )
    with torch.no_grad():
        network(IMAGES)
    return seen[0]


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("room", [0, 4000, 10**9])
def test_what_a_layer_reads_and_emits_is_that_of_a_pass_of_its_own(constant: bool, room: int) -> None:
    network, _ = network_and_calls()
    [passes] = passes_over(network, IMAGES, constant=constant, budget=MemoryBudget(room))
    for _ in range(2):
        for name in ("first", "second", "shared", "last"):
            for found, expected in zip(passes.until(name), alone(name), strict=True):
                assert torch.equal(found, expected)
            assert torch.equal(passes.emitted(name), alone(name)[1])
    assert not [name for name, layer in network.named_modules() if "forward" in vars(layer)]


def test_no_layer_before_the_one_asked_for_is_computed_twice() -> None:
    network, calls = network_and_calls()
    [passes] = passes_over(network, IMAGES, constant=True)
    calls.clear()
    for name in ("first", "second", "shared", "last", "last", "second"):
        passes.until(name)
    # The second call of `shared` emits something else, so it is made in each pass behind it.
    assert calls == {"first": 1, "second": 1, "shared": 1 + 2, "last": 1}


def test_one_whole_pass_sees_to_what_all_layers_emit() -> None:
    network, calls = network_and_calls()
    [passes] = passes_over(network, IMAGES, constant=True)
    calls.clear()
    for name in ("second", "last", "first", "shared"):
        assert torch.equal(passes.emitted(name), alone(name)[1])
    assert calls == {"first": 1, "second": 1, "shared": 2, "last": 1}


def test_a_layer_that_changes_after_it_was_asked_for_is_seen_as_it_is_then() -> None:
    network, _ = network_and_calls()
    [passes] = passes_over(network, IMAGES)
    passes.until("second")
    with torch.no_grad():
        network.get_submodule("second").weight.mul_(2.0)
    _, emitted = passes.until("second")
    read, _ = passes.until("shared")
    first = functional.relu(network.get_submodule("first")(IMAGES))
    assert torch.allclose(emitted, network.get_submodule("second")(first), atol=1e-12)
    assert torch.allclose(read, (first + 0.5 * emitted).flatten(2).transpose(0, 1), atol=1e-12)


def test_no_more_is_kept_than_the_budget_allows() -> None:
    network, _ = network_and_calls()
    budget = MemoryBudget(8 * 13 * 4 * 36 + 5)
    [passes] = passes_over(network, IMAGES, constant=True, budget=budget)
    passes.until("last")
    assert budget.left == 5


@pytest.mark.parametrize("numbers", [1, 4 * 36 * 5, 2**24])
def test_images_go_through_in_parts_that_fit(monkeypatch: pytest.MonkeyPatch, numbers: int) -> None:
    monkeypatch.setattr(passes_module, "AT_ONCE", numbers)
    network, _ = network_and_calls()
    parts = passes_over(network, IMAGES)
    assert [len(each.images) for each in parts] == {1: [1] * 13, 4 * 36 * 5: [5, 5, 3], 2**24: [13]}[numbers]
    assert torch.equal(torch.cat([each.images for each in parts]), IMAGES)


@pytest.mark.parametrize("kept", [0, 13 * 4 * 36 * 8])
def test_a_budget_that_is_too_small_costs_no_pass_more_than_none_at_all(kept: int) -> None:
    network, calls = network_and_calls()
    [passes] = passes_over(network, IMAGES, constant=True, budget=MemoryBudget(kept))
    calls.clear()
    for name in ("first", "second", "last"):
        passes.emitted(name)
    assert calls["first"] == (1 if kept else 3)
    assert calls["second"] == 2
    assert calls["last"] == 1


class Adapted(nn.Linear):
    """A layer that adds what two smaller ones of its own make of its input."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width)
        self.down, self.up = nn.Linear(width, 2), nn.Linear(2, width)

    def forward(self, given: Tensor) -> Tensor:
        return super().forward(given) + self.up(self.down(given))


class Two(nn.Linear):
    """A layer that hands on two values."""

    def forward(self, given: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return super().forward(given), None


def test_layers_within_a_layer_are_seen_after_it_too() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), Adapted(4), nn.Linear(4, 2)).eval()
    images = torch.rand(5, 3)
    [passes] = passes_over(network, images, constant=True)
    for name in ("2", "1.down", "1.up", "1"):
        expected = passes_over(network, images, constant=True)[0].until(name)
        assert all(torch.equal(one, other) for one, other in zip(passes.until(name), expected, strict=True))


def test_a_layer_of_several_values_is_computed_each_time() -> None:
    class First(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.two, self.last = Two(3, 4), nn.Linear(4, 2)

        def forward(self, given: Tensor) -> Tensor:
            return self.last(self.two(given)[0])

    [passes] = passes_over(First().eval(), torch.rand(5, 3), constant=True)
    assert passes.emitted("last").shape == (5, 2)
    assert passes.until("last")[0].shape == (5, 4)


@pytest.mark.parametrize("kept", [0, 10**9])
def test_what_a_layer_itself_emits_is_seen_whatever_a_hook_makes_of_it(kept: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).eval()
    network[0].register_forward_hook(lambda _layer, _given, made: 2 * made + 1)
    images = torch.rand(5, 3)
    own = nn.functional.linear(images, network[0].weight, network[0].bias)
    [passes] = passes_over(network, images, constant=True, budget=MemoryBudget(kept))
    for _ in range(2):
        assert torch.equal(passes.emitted("0"), own)
        assert torch.equal(passes.until("0")[1], own)
        assert torch.equal(passes.until("1")[0], 2 * own + 1)


def test_images_take_the_networks_type() -> None:
    network = nn.Sequential(nn.Linear(3, 2)).half().eval()
    [passes] = passes_over(network, torch.rand(4, 3))
    assert passes.until("0")[1].dtype == torch.float16
