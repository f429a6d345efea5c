from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tracing import CallBehaviour, ops, trace, tried


@pytest.mark.parametrize(
    ("layer", "axis", "found"),
    [
        (nn.GELU(), 1, CallBehaviour(bends=True, keeps_zero=True)),
        (nn.Sigmoid(), 1, CallBehaviour(bends=True, keeps_zero=False)),
        (nn.Identity(), 1, CallBehaviour(bends=False, keeps_zero=True)),
        (nn.Softmax(2), 1, CallBehaviour(bends=True, keeps_zero=False)),
        (nn.Softmax(1), 1, None),
        (nn.GroupNorm(2, 4), 1, None),
        (nn.LayerNorm(3), 1, None),  # its float32 weights do not take float64
        (nn.Softmax(1), 2, CallBehaviour(bends=True, keeps_zero=False)),
    ],
)
def test_a_call_is_known_by_what_it_does_to_random_numbers(
    layer: nn.Module, axis: int, found: CallBehaviour | None
) -> None:
    graph = trace(nn.Sequential(layer).eval(), torch.rand(2, 4, 3))
    node = next(node for node in graph.nodes if node.layer is layer)
    assert tried(node, axis) == found


def test_a_call_of_two_values_is_not_tried() -> None:
    class Doubled(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.maximum(x, x.flip(1))

    graph = trace(Doubled(), torch.rand(2, 4))
    assert tried(next(node for node in graph.nodes if node.op is ops.UNKNOWN), 1) is None


class Rotated(nn.Module):
    """Mixes entry j with entry j + 2 of every four, as a rotary embedding does."""

    __module__ = "torch.nn"  # whose layers torch.fx does not look into

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.reshape(*x.shape[:-1], -1, 2, 2).unbind(-2)
        return torch.stack((first - second, second + first), -2).reshape(x.shape)


def test_a_call_that_mixes_entries_two_apart_is_not_taken_for_one_that_keeps_them_apart() -> None:
    graph = trace(nn.Sequential(Rotated()).eval(), torch.rand(2, 3, 8))
    node = next(node for node in graph.nodes if isinstance(node.layer, Rotated))
    assert tried(node, 2) is None
    assert tried(node, 1) == CallBehaviour(bends=False, keeps_zero=True)
