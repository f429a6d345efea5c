"""The coverage benchmark's cells, on networks that take no time."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.coverage import compacted_difference, lowered_layers, prunable
from training import build

IMAGES = torch.rand(2, 1, 8, 8)


def test_its_cells_say_what_is_lowered_pruned_and_compacted() -> None:
    smooth = build("vit_tiny", input_shape=(1, 8, 8), classes=3, seed=0).eval()
    assert lowered_layers(smooth, IMAGES).startswith("no: ")
    assert lowered_layers(build("fc3", input_shape=(1, 8, 8), classes=3, seed=0).eval(), IMAGES) == "2, 0"
    assert prunable(smooth, ["block1.fc1", "block1.fc2"], IMAGES) == ["block1.fc1"]
    assert float(compacted_difference(smooth, ["block1.fc1", "block2.fc1"], IMAGES)) < 1e-5


def test_a_network_in_which_nothing_can_be_removed_has_no_layer_to_prune() -> None:
    normed = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.SiLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
    assert prunable(normed, ["0"], IMAGES) == []
