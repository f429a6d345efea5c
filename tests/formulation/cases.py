"""Small float64 networks with undecided units, built from a seed, and how torch itself masks their units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from formulation import ScoreSettings, lower
from formulation.reduction import Reduction, reduce


@dataclass(frozen=True, eq=False)
class Case:
    """A network, the ReLU module behind each scored layer, and labelled images for it."""

    model: nn.Sequential
    gates: Mapping[str, str]
    images: Tensor
    labels: Tensor

    @property
    def pixels(self) -> np.ndarray:
        return self.images.reshape(len(self.images), -1).numpy().T

    def reduction(self, settings: ScoreSettings, *, slice_size: int = 16) -> Reduction:
        return reduce(lower(self.model, self.images), self.pixels, self.labels.numpy(), settings, slice_size=slice_size)

    def masked_logits(self, masks: Mapping[str, np.ndarray]) -> np.ndarray:
        """Logits [classes, images] of the torch module, each ReLU's output times its units' mask, by forward hooks."""

        def hook(mask: np.ndarray):
            def multiply(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
                return output * torch.as_tensor(mask, dtype=torch.float64).reshape(1, -1, *[1] * (output.ndim - 2))

            return multiply

        relus = {layer: self.model.get_submodule(name) for layer, name in self.gates.items()}
        handles = [relu.register_forward_hook(hook(masks[layer])) for layer, relu in relus.items()]
        try:
            with torch.no_grad():
                return self.model(self.images).numpy().T
        finally:
            for handle in handles:
                handle.remove()

    def masked_loss(self, masks: Mapping[str, np.ndarray]) -> float:
        logits = torch.as_tensor(self.masked_logits(masks).T)
        return float(nn.functional.cross_entropy(logits, self.labels))


def make(seed: int, layers: list[nn.Module], shape: tuple[int, ...], images: int, *, sharpness: float = 3.0) -> Case:
    """A case from fresh layers: every weight drawn from the seed, wide enough that scores matter."""
    draw = torch.Generator().manual_seed(seed)
    model = nn.Sequential(*layers).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            fan = max(1, parameter[0].numel()) if parameter.ndim > 1 else 4
            fresh = torch.randn(parameter.shape, generator=draw, dtype=torch.float64)
            parameter.copy_(fresh * sharpness / 2 / fan**0.5)
    pixels = torch.rand((images, *shape), generator=draw, dtype=torch.float64)
    gates, last = {}, ""
    for name, layer in model.named_children():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            last = name
        if isinstance(layer, nn.ReLU):
            gates[last] = name
    with torch.no_grad():
        labels = model(pixels).argmax(dim=1)
    return Case(model, gates, pixels, labels)


def dense(
    seed: int = 0, *, inputs: int = 4, hidden: tuple[int, ...] = (6, 5), classes: int = 3, images: int = 3
) -> Case:
    layers: list[nn.Module] = [nn.Flatten()]
    for fed, width in zip((inputs, *hidden), (*hidden, classes), strict=False):
        layers += [nn.Linear(fed, width), nn.ReLU()]
    return make(seed, layers[:-1], (1, 1, inputs), images)


def conv_pool(seed: int = 0, *, images: int = 2) -> Case:
    layers = [
        nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(3, 2, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(2 * 2 * 2, 4), nn.ReLU(), nn.Linear(4, 3),
    ]  # fmt: skip
    return make(seed, layers, (1, 6, 6), images)


def strided_grouped(seed: int = 0, *, images: int = 2) -> Case:
    layers = [
        nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(4, 4, 2, groups=4, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 2 * 2, 3),
    ]  # fmt: skip
    return make(seed, layers, (2, 5, 5), images)


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


def gated(case: Case, seed: int, gates: Mapping[str, str]) -> Case:
    """The case with these gates, its norms' statistics drawn from the seed, and its labels with them.

    A gate is the module whose output times the mask is 0 where a unit is removed: the ReLU, or a norm behind it.
    """
    draw = torch.Generator().manual_seed(seed + 1)
    for name, buffer in case.model.named_buffers():
        if buffer.is_floating_point():
            drawn = torch.rand(buffer.shape, generator=draw, dtype=torch.float64)
            buffer.copy_(drawn + 0.5 if name.endswith("running_var") else drawn - 0.3)
    with torch.no_grad():
        return replace(case, gates=gates, labels=case.model(case.images).argmax(dim=1))


def residual(seed: int = 0, *, images: int = 2) -> Case:
    layers = [
        nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(), Block(2, 2), Block(2, 3, stride=2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3),
    ]  # fmt: skip
    gates = {"0": "2", "3.first": "3.gate", "4.first": "4.gate"}
    return gated(make(seed, layers, (1, 4, 4), images), seed, gates)


def concatenated(seed: int = 0, *, images: int = 2) -> Case:
    layers = [nn.Conv2d(1, 2, 2), nn.ReLU(), Branches(2), nn.AvgPool2d(3), nn.Flatten(), nn.Linear(5, 3)]
    ways = {f"2.{way}": f"2.{way}_gate" for way in ("point", "square", "pooled")}
    return gated(make(seed, layers, (1, 4, 4), images), seed, {"0": "1", **ways})


def max_pooled(seed: int = 0, *, images: int = 2) -> Case:
    layers = [
        nn.Conv2d(1, 3, 2), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1), nn.Conv2d(3, 2, 2, padding=1),
        nn.MaxPool2d(2, stride=3, ceil_mode=True), nn.ReLU(), nn.Flatten(), nn.Linear(4, 3),
    ]  # fmt: skip
    return gated(make(seed, layers, (1, 5, 7), images), seed, {"0": "1", "3": "5"})


def conv1d_series(seed: int = 0, *, images: int = 2) -> Case:
    layers = [
        nn.Conv1d(2, 3, 3, stride=2, padding=1), nn.BatchNorm1d(3, affine=False), nn.ReLU(), nn.MaxPool1d(2, stride=1),
        nn.Conv1d(3, 4, 2, dilation=2, bias=False), nn.ReLU(), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(4, 3),
    ]  # fmt: skip
    return gated(make(seed, layers, (2, 9), images), seed, {"0": "2", "4": "5"})


def tabular(seed: int = 0, *, images: int = 3) -> Case:
    layers = [nn.Linear(5, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4, bias=False), nn.ReLU(), nn.Linear(4, 3)]
    return gated(make(seed, layers, (5,), images), seed, {"0": "2", "3": "4"})


def batchnorm_after_relu(seed: int = 0, *, images: int = 2) -> Case:
    layers = [
        nn.Conv2d(1, 3, 2), nn.ReLU(), nn.BatchNorm2d(3), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(3 * 2, 5), nn.ReLU(), nn.BatchNorm1d(5, affine=False), nn.Linear(5, 3),
    ]  # fmt: skip
    return gated(make(seed, layers, (1, 3, 5), images), seed, {"0": "2", "5": "7"})


def random_masks(units: Mapping[str, int], rng: np.random.Generator, keep: float) -> dict[str, np.ndarray]:
    return {name: (rng.random(count) < keep).astype(float) for name, count in units.items()}
