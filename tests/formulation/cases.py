"""Small float64 networks with unstable units, built from a seed, and how torch itself masks their units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from formulation import ScoreSettings, lower
from formulation.relaxation.cuts import Cuts
from formulation.relaxation.propagation import forward
from formulation.relaxation.reduction import Reduction, reduce
from formulation.solve.separation import Separation, complete
from tests.formulation.case_blocks import Block, Branches, DenseUnit, InvertedBlock


@dataclass(frozen=True, eq=False)
class Case:
    """A network, the ReLU module behind each scored layer, and labelled images for it.

    A group of units has several such modules, each with the channel that is its first unit there.
    """

    model: nn.Sequential
    gates: Mapping[str, str | tuple[tuple[str, int], ...]]
    images: Tensor
    labels: Tensor

    @property
    def pixels(self) -> np.ndarray:
        return self.images.reshape(len(self.images), -1).numpy().T

    def reduction(self, settings: ScoreSettings, **more: int) -> Reduction:
        return reduce(lower(self.model, self.images), self.pixels, self.labels.numpy(), settings, **more)

    def masked_logits(self, masks: Mapping[str, np.ndarray]) -> np.ndarray:
        """Logits [classes, images] of the torch module, each ReLU's output times its units' mask, by forward hooks."""

        def hook(mask: np.ndarray, first: int):
            def multiply(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
                whole = torch.ones(output.shape[1], dtype=torch.float64)
                whole[first : first + len(mask)] = torch.as_tensor(mask, dtype=torch.float64)
                return output * whole.reshape(1, -1, *[1] * (output.ndim - 2))

            return multiply

        places = {layer: ((gate, 0),) if isinstance(gate, str) else gate for layer, gate in self.gates.items()}
        handles = [
            self.model.get_submodule(name).register_forward_hook(hook(masks[layer], first))
            for layer, gates in places.items()
            for name, first in gates
        ]
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
        nn.Conv2d(4, 4, 2, groups=2, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 2 * 2, 3),
    ]  # fmt: skip
    return make(seed, layers, (2, 5, 5), images)


def gated(case: Case, seed: int, gates: Mapping[str, str | tuple[tuple[str, int], ...]]) -> Case:
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
    gates = {"0": (("2", 0), ("3.last", 0)), "3.first": "3.gate", "4.first": "4.gate", "4.second": "4.last"}
    return gated(make(seed, layers, (1, 4, 4), images), seed, gates)


def inverted(seed: int = 0, *, images: int = 2) -> Case:
    layers = [
        *(nn.Conv2d(1, 2, 2, stride=2), InvertedBlock(2, 3), nn.AvgPool2d((1, 2)), nn.Flatten(), nn.Linear(2, 3)),
    ]
    gates = {"0": (("0", 0), ("1.narrow_norm", 0)), "1.wide": "1.deep_gate"}
    return gated(make(seed, layers, (1, 2, 4), images), seed, gates)


def densely_connected(seed: int = 0, *, images: int = 2) -> Case:
    layers = [
        nn.Conv2d(1, 2, 2, stride=2), DenseUnit(2, 2), nn.BatchNorm2d(4), nn.ReLU(),
        nn.AvgPool2d((1, 2)), nn.Flatten(), nn.Linear(4, 3),
    ]  # fmt: skip
    gates = {"0": (("1.gate", 0), ("3", 0)), "1.conv": (("3", 2),)}
    return gated(make(seed, layers, (1, 2, 4), images), seed, gates)


def leaky(seed: int = 0, *, images: int = 2) -> Case:
    layers = [
        nn.Linear(4, 4), nn.LeakyReLU(0.2), nn.Linear(4, 3), nn.ReLU(), nn.Hardtanh(-1.0, 0.6), nn.Linear(3, 3),
    ]  # fmt: skip
    return gated(make(seed, layers, (4,), images), seed, {"0": "1", "2": "3"})


def moved(seed: int = 0, *, images: int = 2) -> Case:
    layers = [
        nn.ZeroPad2d((0, 1, 1, 0)), nn.Conv2d(1, 4, 2), nn.ReLU(), nn.PixelShuffle(2), nn.ReflectionPad2d(1),
        nn.Conv2d(1, 2, 3, stride=3, padding=1, padding_mode="circular"), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3),
    ]  # fmt: skip
    return gated(make(seed, layers, (1, 2, 2), images), seed, {"1": "2", "5": "6"})


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


SMALL: dict[str, Callable[..., Case]] = {
    "dense": dense,
    "average pool": conv_pool,
    "strided and grouped": strided_grouped,
    "residual": residual,
    "inverted": inverted,
    "densely connected": densely_connected,
    "concatenated": concatenated,
    "max-pooled": max_pooled,
    "series": conv1d_series,
    "tabular": tabular,
    "norm after relu": batchnorm_after_relu,
    "leaky": leaky,
    "moved": moved,
}  # every operation that a network may have; built from a seed


def drawn(seed: int, *, images: int = 2) -> Case:
    """A small network of drawn structure: a convolution, then pools, sums, concatenations, norms, dense layers."""
    rng = np.random.default_rng(seed)
    channels, size = int(rng.integers(1, 3)), 4
    layers: list[nn.Module] = [nn.Conv2d(1, channels, 2, padding=int(rng.integers(2)))]
    size += 2 * layers[0].padding[0] - 1
    gates, last = {}, "0"
    if rng.random() < 0.3:
        layers.append(nn.BatchNorm2d(channels))
    layers.append(nn.ReLU())
    gates[last] = str(len(layers) - 1)
    kind = rng.choice(["max", "average", "norm and max", "sum", "ways"])
    if kind == "norm and max":
        layers.append(nn.BatchNorm2d(channels))
        gates[last] = str(len(layers) - 1)
    if "max" in kind:
        pad = int(rng.integers(2))
        layers.append(nn.MaxPool2d(2, stride=2, padding=pad))
        size = (size + 2 * pad - 2) // 2 + 1
    elif kind == "average":
        layers.append(nn.AvgPool2d(2, stride=2))
        size = (size - 2) // 2 + 1
    elif kind == "sum":
        name = str(len(layers))
        layers.append(Block(channels, channels))
        gates["0"] = ((str(len(layers) - 2), 0), (f"{name}.last", 0))
        gates[f"{name}.first"] = f"{name}.gate"
    else:
        name = str(len(layers))
        layers.append(Branches(channels))
        gates |= {f"{name}.{way}": f"{name}.{way}_gate" for way in ("point", "square", "pooled")}
        channels = 5
    layers += [nn.AvgPool2d(size), nn.Flatten()] if kind in ("sum", "ways") else [nn.Flatten()]
    fed = channels * (1 if kind in ("sum", "ways") else size * size)
    if rng.random() < 0.5:
        gates[str(len(layers))] = str(len(layers) + 1)
        layers += [nn.Linear(fed, 3, bias=bool(rng.integers(2))), nn.ReLU()]
        fed = 3
    return gated(make(seed, [*layers, nn.Linear(fed, 3)], (1, 4, 4), images), seed, gates)


def loss_cuts_at(reduction: Reduction, scores: np.ndarray) -> Cuts:
    """The loss cuts under the loss that touch it where every unstable activation follows its ReLU."""
    return Separation(reduction).inspect(complete(reduction, scores)[0]).loss_cuts


def logits_at(reduction: Reduction, point: np.ndarray) -> np.ndarray:
    """The logits of the forms at a point, [classes, images]."""
    return np.concatenate([forward(reduction, batch, point).logits for batch in reduction.batches], axis=1)
