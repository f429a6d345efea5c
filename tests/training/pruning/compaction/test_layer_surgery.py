from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.training.compacting import check
from tests.training.networks import stir
from training.pruning.compaction.layer_surgery import Axis, GroupwiseConv, put_back


def test_units_are_put_back_among_zeros() -> None:
    axis = Axis(torch.tensor([False, True, False, True]), torch.tensor([True, True, False, True]))
    assert axis.reads().tolist() == [1, 2]
    units = torch.tensor([[[5.0, 6.0], [7.0, 8.0]]])
    assert put_back(units, axis.places()).tolist() == [[[0.0, 0.0], [5.0, 6.0], [7.0, 8.0]]]
    assert Axis(axis.kept, axis.kept).reads() is None
    assert Axis(axis.kept, axis.kept).places() is None


class Grouped(nn.Module):
    """A convolution, a grouped one behind it (depthwise as well), a reader of that."""

    def __init__(self, groups: int, width: int, stride: int, padding: int | str, bias: bool, norm: bool) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, padding=1, bias=bias)
        self.grouped = nn.Conv2d(6, width, 3, stride, padding, groups=groups, bias=bias, dilation=1)
        self.norm = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.last = nn.Conv2d(width, 4, 1)
        self.output = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.grouped(torch.relu(self.first(x))))
        return self.output(torch.relu(self.last(self.norm(x))).mean((2, 3)))


@settings(max_examples=15, deadline=None)
@given(
    st.sampled_from([(1, 4), (2, 4), (3, 6), (6, 6), (6, 12)]),
    st.sampled_from([(1, 0), (2, 1), (1, "same"), (2, "valid")]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 1000),
    st.sampled_from([0.2, 0.5, 0.8]),
)
def test_groups_keep_what_the_masks_leave_them(
    groups: tuple[int, int], moves: tuple[int, int | str], bias: bool, norm: bool, seed: int, keep: float
) -> None:
    torch.manual_seed(seed)
    check(stir(Grouped(*groups, *moves, bias, norm), seed), seed, keep)


def test_a_grouped_convolution_with_equal_groups_stays_one_plain_convolution() -> None:
    model = Grouped(2, 4, 1, 0, True, True).eval()
    masks = {"first": np.array([1, 1, 0, 1, 0, 1], dtype=bool), "grouped": np.array([1, 0, 1, 0], dtype=bool)}
    compacted = check(model, masks=masks)
    assert type(compacted.grouped) is nn.Conv2d
    assert (compacted.grouped.groups, compacted.grouped.weight.shape) == (2, (2, 2, 3, 3))


def test_depthwise_units_that_go_with_their_inputs_leave_a_plain_depthwise_convolution() -> None:
    model = Grouped(6, 6, 1, 0, True, True).eval()
    mask = np.array([1, 0, 1, 0, 0, 1], dtype=bool)
    compacted = check(model, masks={"first": mask})
    assert type(compacted.grouped) is nn.Conv2d
    assert compacted.grouped.groups == 3


@pytest.mark.parametrize("bias", [True, False])
def test_units_whose_inputs_are_all_gone_emit_their_bias(bias: bool) -> None:
    model = stir(Grouped(2, 4, 2, 1, bias, True), 0)
    masks = {"first": np.arange(6) < 2, "grouped": np.arange(4) >= 2}
    compacted = check(model, masks=masks)
    assert isinstance(compacted.grouped, GroupwiseConv)
    assert not len(compacted.grouped.parts)
