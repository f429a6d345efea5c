"""The cache of the benchmarks' trained networks: a folder for each way of training."""

from __future__ import annotations

from itertools import product

from benchmarks.trained import folder_name
from training import FitSettings


def test_networks_of_another_training_lie_in_another_folder() -> None:
    choices = product(
        ("mnist", "cifar10"), (3, 6), (0, 1), ("constant", "cosine"), ("", "folder:/a/b", "folder:/a/c"), (None, 500)
    )
    names = [
        folder_name(data, FitSettings(epochs=epochs, seed=seed, rate_schedule=schedule), source or data, limit)
        for data, epochs, seed, schedule, source, limit in choices
    ]
    assert len(names) == len(set(names))
    assert all("/" not in name for name in names)
    assert names[0] == "mnist-3-epochs-seed-0"
