"""Linear layers on tokens: one matrix per token, and units that all tokens share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.formulation.lowering.test_lowering import assert_same, pictures, shaken
from training import compact, prune

READ: dict[str, Callable[[Tensor], Tensor]] = {
    "their mean": lambda h: h.mean(1),
    "the first one": lambda h: h[:, 0],
    "each of them, then their mean": lambda h: h,
}


class OnTokens(nn.Module):
    def __init__(self, read: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.c, self.read = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 3), read

    def forward(self, x: Tensor) -> Tensor:
        made = self.c(torch.relu(self.b(self.read(torch.relu(self.a(x))))))
        return made.mean(1) if made.ndim == 3 else made


@pytest.mark.parametrize("read", READ)
def test_tokens_share_the_units_of_a_linear_layer(read: str) -> None:
    model, images = shaken(OnTokens(READ[read]), 0).double().eval(), pictures(0, 3, 4)
    network = assert_same(model, images)
    assert network.units == {"a": 6, "b": 5}
    masks = {"a": np.arange(6) % 3 != 1, "b": np.arange(5) != 2}
    pixels, expected = images.flatten(1).numpy().T, prune(model, masks, images)(images).detach().numpy().T
    np.testing.assert_allclose(network.evaluate(pixels, masks), expected, atol=1e-10)
    np.testing.assert_allclose(compact(model, masks, images)(images).detach().numpy().T, expected, atol=1e-10)


def test_units_that_are_laid_out_by_token_have_a_reason() -> None:
    model = OnTokens(lambda h: h.flatten(1))
    model.b = nn.Linear(18, 5)
    network = assert_same(shaken(model, 0), pictures(0, 3, 4))
    assert network.units == {"b": 5}
    assert "cannot be followed through" in network.unscored["a"]
