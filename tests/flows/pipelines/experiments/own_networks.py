"""Networks of one's own, in a file that imports torch alone: whoever names one imports it in a process of its own."""

from torch import nn


def small() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 5), nn.ReLU(), nn.Linear(5, 10))


def headless() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 10, 6), nn.Flatten())
