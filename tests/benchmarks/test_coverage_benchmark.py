"""The coverage benchmark, on networks that take little time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks.coverage import COLUMNS, EQUAL, REMOVED, Journey, journey, kind_of, row, settled
from training import build


def sample(name: str) -> tuple[nn.Module, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    if name == "mobilenet_v3_small":
        return settled(name), torch.rand(4, 3, 32, 32, generator=draw)
    return build(name, input_shape=(1, 8, 8), classes=3, seed=0).eval(), torch.rand(4, 1, 8, 8, generator=draw)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "vit_tiny", "fc3"])
def test_a_sample_goes_the_whole_way(name: str) -> None:
    made = journey(name, *sample(name))
    assert made.whole, row(made)
    assert made.way == ("lowered" if name == "fc3" else "differentiated")


def test_a_network_in_which_nothing_can_be_removed_ends_there() -> None:
    torch.manual_seed(0)
    normed = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.SiLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
    made = journey("normed", normed, torch.rand(4, 1, 8, 8))
    assert made.status == "optimal"
    assert "cannot be followed" in made.failure
    assert not made.whole


WHOLE = Journey("x", "lowered", "optimal", 1, 1, (), REMOVED, EQUAL, EQUAL)


@pytest.mark.parametrize(
    "short",
    [{"status": "stalled"}, {"removed": 0.29}, {"compacted": 2 * EQUAL}, {"onnx": float("nan")}, {"failure": "no"}],
)
def test_the_whole_way_is_all_of_it(short: dict[str, object]) -> None:
    assert WHOLE.whole
    assert not replace(WHOLE, **short).whole


def test_reasons_are_counted_without_names() -> None:
    assert kind_of("'a' (add) reads its units") == kind_of("'b' (add) reads its units") == ".. (add) reads its units"
    assert row(WHOLE).count("|") == len(COLUMNS) + 1
