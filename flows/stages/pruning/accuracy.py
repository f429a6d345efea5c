"""Accuracy and loss of a network on one of the splits."""

from torch import nn

import training
from flows.adapters import device_of
from flows.config import Settings
from training import Dataset, Evaluation


def evaluation_of(settings: Settings, network: nn.Module, dataset: Dataset, split: str = "test") -> Evaluation:
    """Accuracy and loss of a network on the test or the validation images."""
    images = dataset.test if split == "test" else dataset.validation
    with training.torch_threads(settings.threads):
        return training.evaluate(network, images, batch_size=settings.batch_size, device=device_of(settings))
