"""Units behind calls that only move values: followed where axis 1 keeps them apart, left in their places where not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training import compact, prune, refit

IMAGES = torch.rand(24, 1, 6, 6, generator=torch.Generator().manual_seed(0))
MASKS = {"conv": np.array([True, False, True, False])}

FOLLOWED: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed pixels": lambda x: x.transpose(2, 3).flatten(1),
    "flipped pixels": lambda x: torch.flip(x, (2,)).flatten(1),
    "padded": lambda x: F.pad(x, (1, 0, 2, 1)).flatten(1),
    "reflected": lambda x: F.pad(x, (1, 1, 0, 1), mode="reflect").flatten(1),
    "squeezed": lambda x: x.mean((2, 3), keepdim=True).squeeze(-1).squeeze(-1),
    "one pixel": lambda x: x[:, :, 0, 0],
    "resized": lambda x: F.interpolate(x, scale_factor=2).flatten(1),
    "cast and copied": lambda x: x.clone().float().flatten(1),
    "negated": lambda x: (-x).flatten(1),
}
LAID_OUT_ANEW: dict[str, Callable[[Tensor], Tensor]] = {
    "channels last": lambda x: x.permute(0, 2, 3, 1).flatten(1),
    "channels flipped": lambda x: x.flip(1).flatten(1),
    "constant around": lambda x: F.pad(x, (1, 1), value=1.0).flatten(1),
    "pixels to channels": lambda x: F.pixel_shuffle(x, 2).flatten(1),
    "half the channels": lambda x: x[:, :2].flatten(1),
    "a part": lambda x: x.chunk(2, 3)[0].flatten(1),
    "stacked": lambda x: torch.stack([x, x], 1).flatten(1),
}


class Moving(nn.Module):
    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.change, self.conv = change, nn.Conv2d(1, 4, 3)
        self.out = nn.Linear(change(torch.zeros(1, 4, 4, 4)).shape[1], 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.change(torch.relu(self.conv(x))))


@pytest.mark.parametrize("change", FOLLOWED)
def test_units_are_followed_through_what_keeps_them_apart(change: str) -> None:
    model = Moving(FOLLOWED[change]).eval()
    masked, compacted = prune(model, MASKS, IMAGES), compact(model, MASKS, IMAGES)
    torch.testing.assert_close(compacted(IMAGES), masked(IMAGES))
    assert compacted.conv.weight.shape[0] == 2
    assert compacted.out.weight.shape[1] == model.out.weight.shape[1] // 2
    changed = model.change(torch.relu(model.conv(IMAGES)) * torch.tensor(MASKS["conv"])[:, None, None])
    torch.testing.assert_close(masked(IMAGES), model.out(changed))
    dense, fitted = model(IMAGES), refit(model, MASKS, IMAGES)(IMAGES)
    assert (fitted - dense).square().sum() <= (masked(IMAGES) - dense).square().sum() * (1 + 1e-6)


@pytest.mark.parametrize("change", LAID_OUT_ANEW)
def test_units_that_are_mixed_or_reordered_are_removed_and_the_others_keep_their_places(change: str) -> None:
    model = Moving(LAID_OUT_ANEW[change]).eval()
    masked, compacted = prune(model, MASKS, IMAGES), compact(model, MASKS, IMAGES)
    changed = model.change(torch.relu(model.conv(IMAGES)) * torch.tensor(MASKS["conv"])[:, None, None])
    torch.testing.assert_close(masked(IMAGES), model.out(changed))
    torch.testing.assert_close(compacted(IMAGES), masked(IMAGES))
    assert compacted.conv.weight.shape[0] == 2
    assert compacted.out.weight.shape == model.out.weight.shape
