"""Units on their way through calls that the op table does not know, and that take every channel alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.training.compacting import check
from tests.training.networks import example
from training.errors import UnsupportedGraph
from training.pruning import consumers


class Pooled(nn.Module):
    """A convolution's maps, pooled in some way, and a Linear."""

    input_shape = (1, 6, 6)

    def __init__(self, pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(1, 4, 3), pool
        self.last = nn.Linear(pool(torch.rand(1, 4, 4, 4)).shape[1], 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.pool(torch.relu(self.conv(x))))


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: x.std((2, 3)),
        lambda x: x.flatten(2).norm(dim=2),
        lambda x: nn.functional.lp_pool2d(x, 2, 2).flatten(1),
        lambda x: x.flatten(2).quantile(0.75, dim=2),
        lambda x: x.flatten(2).prod(2),
    ],
)
def test_a_pool_of_any_kind_hands_units_on(pool: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    model = Pooled(pool).eval()
    assert list(consumers(model, example(model))) == ["conv"]
    check(model)


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: x.flatten(2).logsumexp(2),  # what is left of 0 is log 16
        lambda x: x.flatten(2).norm(dim=1),
        lambda x: torch.cdist(x.flatten(2), x.flatten(2).flip(1)).flatten(1),
    ],
)
def test_what_keeps_no_0_or_mixes_channels_is_named(pool: Callable[[Tensor], Tensor]) -> None:
    model = Pooled(pool).eval()
    with pytest.raises(UnsupportedGraph, match="layer 'conv'"):
        consumers(model, example(model), ["conv"])
