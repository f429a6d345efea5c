"""A small network trained on the digits, and the digits as a loader."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import critical_neurons as cn
import training
from critical_neurons import ScoreResult
from training import Dataset


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return training.load("digits", root=None, seed=0)


@pytest.fixture(scope="session")
def network(digits: Dataset) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(784, 20), nn.ReLU(), nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 10)]
    settings = training.FitSettings(epochs=15, learning_rate=0.01)
    return training.fit(nn.Sequential(*layers), digits.train, digits.validation, settings).model


@pytest.fixture
def loader(digits: Dataset) -> DataLoader[tuple[torch.Tensor, ...]]:
    return DataLoader(TensorDataset(digits.train.images, digits.train.labels), batch_size=100)


@pytest.fixture(scope="session")
def scored(network: nn.Module, digits: Dataset) -> ScoreResult:
    return cn.score(network, digits.train, images=50)
