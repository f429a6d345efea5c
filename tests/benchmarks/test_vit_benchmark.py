"""The benchmark of the vision transformer: the units removed at a level, and the printed table."""

from __future__ import annotations

import numpy as np

from benchmarks.vit import Row, masks_at, table


def test_every_block_loses_as_many_heads_and_units_as_the_level_says() -> None:
    scores = {"block1.attention": np.arange(4.0), "block1.fc1": np.arange(128.0)}
    kept = {layer: int(mask.sum()) for layer, mask in masks_at(scores, (1, 45)).items()}
    assert kept == {"block1.attention": 3, "block1.fc1": 83}


def test_random_draws_are_one_line_with_their_range() -> None:
    rows = [Row((1, 45), "program", 29.0, 80.0, 82.0, 9.0)]
    rows += [Row((1, 45), f"random, draw {k}", 29.0, 60.0 + k, 70.0 + k, 9.0) for k in (1, 3)]
    lines = table(rows, 85.0).splitlines()
    assert "85.00" in lines[2]
    assert lines[3].endswith("| program | 80.00 | 82.00 | 9 |")
    assert lines[4].endswith("| random, 2 draws | 62.00 (61.00 to 63.00) | 72.00 (71.00 to 73.00) | 9 |")
