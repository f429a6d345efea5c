"""Small real data for the tests of this room: scikit-learn's digits, and shapes made from a seed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from training import Dataset, build, fit, load, torch_threads
from training.fitting.loop import FitSettings


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load("digits", root=None, seed=0, limit=600)


@pytest.fixture(scope="session")
def trained(digits: Dataset) -> torch.nn.Module:
    model = build("fc2", input_shape=digits.input_shape, classes=10, seed=0)
    return fit(model, digits.train, digits.validation, FitSettings(epochs=4)).model
