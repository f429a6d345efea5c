"""Attention by products and a softmax: torch's own values, whatever the mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from formulation.lowering import differentiable
from formulation.lowering.derivatives.explicit_attention import ExplicitAttention

TOKENS = 4
CAUSAL = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()
CLOSE = 1e-9


@pytest.mark.parametrize(
    "named",
    [{}, {"attn_mask": CAUSAL}, {"attn_mask": CAUSAL.double()}, {"is_causal": True}, {"scale": 0.3}],
    ids=["no mask", "bools", "numbers", "causal", "scale"],
)
def test_the_values_are_those_of_torchs_own_function(named: dict) -> None:
    query, key, value = torch.rand(3, 2, 3, TOKENS, 5, dtype=torch.float64)
    expected = F.scaled_dot_product_attention(query, key, value, **named)
    with ExplicitAttention():
        found = F.scaled_dot_product_attention(query, key, value, **named)
        torch.testing.assert_close(
            F.scaled_dot_product_attention(query=query, key=key, value=value, **named), expected, atol=CLOSE, rtol=0
        )
        if set(named) == {"attn_mask"}:
            by_place = F.scaled_dot_product_attention(query, key, value, named["attn_mask"])
            torch.testing.assert_close(by_place, expected, atol=CLOSE, rtol=0)
    torch.testing.assert_close(found, expected, atol=CLOSE, rtol=0)


class Causal(nn.Module):
    """Attention whose mask is of bools, in one of the spellings."""

    def __init__(self, spelling: str) -> None:
        super().__init__()
        self.spelling = spelling
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.layer = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
        self.output = nn.Linear(6, 2)
        self.register_buffer("mask", ~CAUSAL)

    def forward(self, x: Tensor) -> Tensor:
        if self.spelling == "layer":
            x = self.attention(x, x, x, attn_mask=self.mask, need_weights=False)[0]
        elif self.spelling == "encoder layer":
            x = self.layer(x, src_mask=self.mask)
        else:
            x = F.scaled_dot_product_attention(x, x, x, attn_mask=~self.mask)
        return self.output(self.layer.linear2(self.layer.linear1(x).relu()).mean(1))


@pytest.mark.parametrize("spelling", ["layer", "encoder layer", "function"])
def test_a_network_with_a_mask_of_bools_is_differentiated_as_it_is(spelling: str) -> None:
    torch.manual_seed(0)
    model, images = Causal(spelling).eval().double(), torch.rand(3, TOKENS, 6, dtype=torch.float64)
    network = differentiable(model, images)
    assert network.differentiable is not None
    logits, jacobian = network.differentiable.passes.jacobian(images.flatten(1).numpy().T)
    with torch.no_grad():
        np.testing.assert_allclose(logits.T, model(images), atol=CLOSE)
    step = np.random.default_rng(0).normal(size=jacobian.shape[-1])
    along = network.differentiable.passes.along(images.flatten(1).numpy().T, step)
    np.testing.assert_allclose(along, logits + np.einsum("icj,j->ci", jacobian, step), atol=1e-8)
