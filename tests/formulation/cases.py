"""Small float64 networks with undecided units, built from a seed, and how torch itself masks their units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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


def random_masks(units: Mapping[str, int], rng: np.random.Generator, keep: float) -> dict[str, np.ndarray]:
    return {name: (rng.random(count) < keep).astype(float) for name, count in units.items()}
