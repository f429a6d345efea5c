"""Blocks of layers with several ways through them, for the cases."""

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """A basic residual block: relu(norm(second(relu(norm(first(x))))) + x)."""

    def __init__(self, fed: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(fed, width, 3, stride, padding=1, bias=False)
        self.first_norm, self.gate = nn.BatchNorm2d(width), nn.ReLU()
        self.second, self.second_norm = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.way = nn.Identity() if fed == width and stride == 1 else nn.Conv2d(fed, width, 1, stride, bias=False)
        self.last = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.gate(self.first_norm(self.first(x)))
        return self.last(self.second_norm(self.second(hidden)) + self.way(x))


class Branches(nn.Module):
    """Three ways through, concatenated: a point, a square, and a max-pool with a point."""

    def __init__(self, fed: int) -> None:
        super().__init__()
        self.point, self.point_gate = nn.Conv2d(fed, 2, 1), nn.ReLU()
        self.square, self.square_gate = nn.Conv2d(fed, 2, 3, padding=1), nn.ReLU()
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.pooled, self.pooled_gate = nn.Conv2d(fed, 1, 1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        ways = [self.point_gate(self.point(x)), self.square_gate(self.square(x))]
        return torch.cat([*ways, self.pooled_gate(self.pooled(self.pool(x)))], dim=1)


class InvertedBlock(nn.Module):
    """An inverted residual: a wide map, a depthwise convolution, a linear bottleneck, and a sum with the input."""

    def __init__(self, width: int, wide: int) -> None:
        super().__init__()
        self.wide, self.wide_norm, self.wide_gate = nn.Conv2d(width, wide, 1), nn.BatchNorm2d(wide), nn.ReLU6()
        self.deep, self.deep_gate = nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False), nn.ReLU6()
        self.narrow, self.narrow_norm = nn.Conv2d(wide, width, 1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        wide = self.wide_gate(self.wide_norm(self.wide(x)))
        return x + self.narrow_norm(self.narrow(self.deep_gate(self.deep(wide))))


class DenseUnit(nn.Module):
    """A dense connection: the input, and a map of it behind the input."""

    def __init__(self, fed: int, growth: int) -> None:
        super().__init__()
        self.norm, self.gate, self.conv = nn.BatchNorm2d(fed), nn.ReLU(), nn.Conv2d(fed, growth, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(self.gate(self.norm(x)))], 1)
