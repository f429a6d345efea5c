"""The cache of the benchmarks' trained networks: a folder for each way of training."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import torch

from benchmarks.trained import folder_name, train_all
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


def test_other_numbers_of_images_are_drawn_without_training_again(tmp_path: Path) -> None:
    found = []
    for images in (10, 20):
        made = train_all(["fc2"], "digits", images, cache=tmp_path, root=tmp_path, epochs=1, seed=0)["fc2"]
        network, pixels, labels = made.load(images)
        assert len(pixels) == images
        with torch.no_grad():
            assert network(torch.from_numpy(pixels)).argmax(1).tolist() == labels.tolist()
        found.append(made.weights.stat().st_mtime_ns)
    assert found[0] == found[1]
