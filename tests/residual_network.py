"""A small residual network: a stream of six numbers that a block reads and adds to."""

from torch import Tensor, nn


class Stream(nn.Module):
    """A residual stream of six numbers, read and added to by two layers with a map of their own between them."""

    def __init__(self, pixels: int, pooled: int = 1) -> None:
        super().__init__()
        self.shrink, self.flatten, self.relu = nn.AvgPool2d(pooled), nn.Flatten(), nn.ReLU()
        self.stem, self.widen, self.narrow = nn.Linear(pixels, 6), nn.Linear(6, 40), nn.Linear(40, 6)
        self.output = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        stream = self.relu(self.stem(self.flatten(self.shrink(x))))
        return self.output(stream + self.narrow(self.relu(self.widen(stream))))
