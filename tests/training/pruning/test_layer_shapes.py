"""Multiply-adds of weights that a function or an attention layer uses, beside torch's own count."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from training.cost import cost_terms
from training.pruning import removal


class Attending(nn.Module):
    """Attention as a layer, and a Linear layer whose weight a function uses."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.used, self.output = nn.MultiheadAttention(4, 2, batch_first=True), *_linears()

    def forward(self, x: Tensor) -> Tensor:
        x = self.attention(x, x, x, need_weights=False)[0]
        return self.output(functional.linear(x, self.used.weight).mean(1))


def _linears() -> tuple[nn.Linear, nn.Linear]:
    return nn.Linear(4, 6, bias=False), nn.Linear(6, 3)


def test_weights_that_no_layer_of_their_own_calls_count() -> None:
    model, images = Attending(), torch.rand(2, 5, 4)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():  # in training mode attention has no kernel of its own that hides its products
        model.train()(images[:1])
    projections = 5 * 4 * 4 * 4 + 5 * 4 * 6 + 6 * 3
    between_activations = counter.get_total_flops() // 2 - projections
    assert removal(model.eval(), {}, images).multiply_adds_before == projections
    assert between_activations in (0, 2 * 5 * 5 * 4)  # as the kernel is counted or not


class Reading(nn.Module):
    """Queries of one length read keys and values of another, by keywords, twice."""

    def __init__(self, **wide: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, **wide)
        self.keys = nn.Linear(4, wide.get("kdim", 4), bias=False)
        self.values = nn.Linear(4, wide.get("vdim", 4), bias=False)
        self.output = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        found = x[:, :2]
        read = {"key": self.keys(input=x), "value": self.values(x)}
        for _ in range(2):
            found = self.attention(query=found, **read, need_weights=False)[0]
        return self.output(input=found.mean(1))


@pytest.mark.parametrize("wide", [{}, {"kdim": 6, "vdim": 3}])
def test_attention_counts_its_own_tokens_of_each_kind_at_every_call(wide: dict[str, int]) -> None:
    model, images = Reading(**wide), torch.rand(2, 9, 4)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model.train()(images[:1])
    kdim, vdim = wide.get("kdim", 4), wide.get("vdim", 4)
    one_call = 2 * 4 * 4 + 9 * kdim * 4 + 9 * vdim * 4 + 2 * 4 * 4
    found = removal(model.eval(), {}, images).multiply_adds_before
    assert found == 9 * 4 * (kdim + vdim) + 2 * one_call + 4 * 3
    assert counter.get_total_flops() // 2 - found in (0, 2 * 2 * 2 * 9 * 4)  # products of activations, counted or not
    assert sum(cost for *_, cost in cost_terms(model, [], images, "multiply_adds")) == found
