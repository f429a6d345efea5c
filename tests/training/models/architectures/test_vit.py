from __future__ import annotations

import pytest
import torch
from torch import nn

from training.errors import ModelError
from training.models import build


def test_it_has_four_blocks_and_reads_patches_as_tokens() -> None:
    model = build("vit_tiny", input_shape=(3, 32, 32), classes=10, seed=0)
    assert sum(isinstance(part, nn.MultiheadAttention) for part in model.modules()) == 4
    assert model.get_submodule("tokens")(torch.rand(2, 3, 32, 32)).shape == (2, 64, 64)


def test_a_patch_that_moves_changes_the_answer() -> None:
    model = build("vit_tiny", input_shape=(1, 8, 8), classes=3, seed=0).eval()
    image = torch.rand(1, 1, 8, 8)
    with torch.no_grad():
        assert (model(image) - model(image.roll(4, 3))).abs().max() > 1e-6


def test_images_that_patches_do_not_cover_are_refused() -> None:
    with pytest.raises(ModelError, match="multiple of 4"):
        build("vit_tiny", input_shape=(1, 28, 30), classes=3, seed=0)
