"""Structured OBS and refitted swaps where answers cannot be differentiated, and for networks of another device."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from training.errors import RefitError
from training.pruning.ranking import answer_costs, measure_readings, readings, search_refitted_swaps
from training.pruning.ranking.readings import answer_sensitivity

IMAGES = torch.rand(20, 1, 2, 2, generator=torch.Generator().manual_seed(1))


class Partly(nn.Module):
    """Three dense layers; a way of its own for what the second one reads."""

    def __init__(self, way: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.last = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 3)
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.way(self, torch.relu(self.first(x.flatten(1))))
        return self.last(torch.relu(hidden))


class Undifferentiated(Partly):
    """The same, none of which torch differentiates."""

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


def whole(network: Any, read: Tensor) -> Tensor:
    return network.second(read)


def frozen(network: Any, read: Tensor) -> Tensor:
    with torch.no_grad():
        return network.second(read)


def detached(network: Any, read: Tensor) -> Tensor:
    return network.second(read).detach()


def written_over(network: Any, read: Tensor) -> Tensor:
    return network.second(read).sigmoid().mul_(2.0)  # the derivative of a sigmoid needs what is gone


@pytest.mark.parametrize("way", [frozen, detached])
def test_outputs_whose_effect_torch_does_not_follow_count_alike(way: Callable[[nn.Module, Tensor], Tensor]) -> None:
    found = answer_sensitivity(Partly(way).eval(), ["second", "last"], IMAGES)
    torch.testing.assert_close(found["second"], torch.eye(5).double())
    torch.testing.assert_close(found["last"], answer_sensitivity(Partly(whole).eval(), ["last"], IMAGES)["last"])
    costs = answer_costs(Partly(way).eval(), IMAGES, ("first", "second"))
    assert {layer: len(each) for layer, each in costs.items()} == {"first": 6, "second": 5}
    assert all(np.isfinite(each).all() and each.max() > 0 for each in costs.values())


def test_a_network_none_of_whose_answers_can_be_differentiated_counts_all_outputs_alike() -> None:
    network = Undifferentiated(whole).eval()
    assert all(
        torch.equal(each, torch.eye(len(each))) for each in answer_sensitivity(network, ["last"], IMAGES).values()
    )


def test_what_torch_refuses_to_differentiate_is_said_in_a_line() -> None:
    with pytest.raises(RefitError, match="answers cannot be differentiated"):
        answer_sensitivity(Partly(written_over).eval(), ["second", "last"], IMAGES)


def test_images_that_the_forward_writes_over_are_no_hindrance() -> None:
    class Centred(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.sub_(0.5))

    network, before = Centred(nn.Flatten(), nn.Linear(4, 3)), IMAGES.clone()
    plain = answer_sensitivity(nn.Sequential(*network), ["1"], IMAGES - 0.5)["1"]
    torch.testing.assert_close(answer_sensitivity(network, ["1"], IMAGES)["1"], plain)
    assert torch.equal(IMAGES, before)


class Elsewhere(nn.Sequential):
    """A network of another device: it answers on the CPU alone, once it has been brought there."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.register_buffer("place", torch.zeros((), dtype=torch.int64, device="meta"))

    def to(self, *args: Any, **kwargs: Any) -> Any:
        self.place = torch.zeros((), dtype=torch.int64)
        return super().to(*args, **kwargs)

    def forward(self, x: Tensor) -> Tensor:
        if self.place.is_meta:
            raise RuntimeError("expected all tensors to be on the same device")
        return super().forward(x)


def test_a_network_of_another_device_is_read_by_a_copy_on_the_cpu() -> None:
    torch.manual_seed(0)
    layers = (nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    network, here = Elsewhere(*layers).eval(), nn.Sequential(*layers).eval()
    assert np.array_equal(answer_costs(network, IMAGES, ["1"])["1"], answer_costs(here, IMAGES, ["1"])["1"])
    masks = {"1": np.arange(6) % 2 == 0}
    found, expected = (search_refitted_swaps(measure_readings(each, ["1"], IMAGES), masks) for each in (network, here))
    assert found.loss_after == expected.loss_after
    assert network.place.is_meta


def test_moments_that_cannot_be_inverted_are_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readings, "DAMPING", 0.0)
    with pytest.raises(RefitError, match="what is read of layer 'first'"):
        answer_costs(Partly(whole).eval(), torch.zeros(4, 1, 2, 2), ("first",))


class Noting(nn.Sequential):
    """Notes which modules are called."""

    called: ClassVar[list[int]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.called.append(id(self))
        return super().forward(x)


def test_the_network_itself_is_never_run_or_hooked_and_several_threads_may_measure_it() -> None:
    torch.manual_seed(0)
    network = Noting(nn.Flatten(), nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    expected = answer_costs(network, IMAGES, ["1"])["1"]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: answer_costs(network, IMAGES, ["1"])["1"], range(12)))
    assert all(np.array_equal(each, expected) for each in found)
    assert network.called
    assert id(network) not in network.called
