from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tracing import CallBehaviour, ops, trace, tried, tried_together


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


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (lambda x: torch.maximum(x, 0.1 * x), CallBehaviour(bends=True, keeps_zero=True)),
        (lambda x: torch.where(x > 0, x, 0.1 * x), CallBehaviour(bends=True, keeps_zero=True)),
        (lambda x: torch.where(x >= 0, x, 0.1 * x), CallBehaviour(bends=True, keeps_zero=True)),
        (lambda x: torch.hypot(x, x + 1), CallBehaviour(bends=True, keeps_zero=True)),
        (lambda x: torch.special.xlog1py(torch.abs(x), 1 + torch.abs(x)), CallBehaviour(bends=True, keeps_zero=True)),
        (lambda x: torch.logaddexp(x, -x), CallBehaviour(bends=True, keeps_zero=False)),
        (lambda x: torch.matmul(x, x.flip(2)), None),
        (lambda x: torch.cdist(x, -x), None),
    ],
)
def test_a_call_of_several_values_is_tried_together(
    call: Callable[[Tensor], Tensor], found: CallBehaviour | None
) -> None:
    class Called(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return call(x)

    graph = trace(Called(), torch.rand(2, 4, 4))
    *_, node, _output = graph.nodes
    assert len(node.live_sources) > 1
    assert tried_together(node, 1) == found


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (lambda x: x.std(2), CallBehaviour(bends=True, keeps_zero=True)),
        (lambda x: x.logsumexp(2), CallBehaviour(bends=True, keeps_zero=False)),
        (lambda x: x.nansum(2), CallBehaviour(bends=False, keeps_zero=True)),
        (lambda x: x.prod(1), None),
        (lambda x: x.std((0, 2)), None),
        (lambda x: torch.trapezoid(x, dim=1), None),
    ],
)
def test_a_call_that_changes_other_axes_is_tried_where_that_is_asked_for(
    call: Callable[[Tensor], Tensor], found: CallBehaviour | None
) -> None:
    class Called(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return call(x)

    *_, node, _output = trace(Called(), torch.rand(2, 4, 4)).nodes
    assert tried(node, 1) is None
    assert tried(node, 1, reshapes=True) == found


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
