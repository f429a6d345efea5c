"""Networks drawn for the tests, random chains of them, and their compaction by hand: an oracle without a graph."""

from __future__ import annotations

import copy
from typing import TypeVar

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from training.pruning import Masks

SIDE = 12
Module = TypeVar("Module", bound=nn.Module)


class Functional(nn.Module):
    """Functional ReLU, pool and view, one module used twice, two readers of one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.wide = nn.Conv2d(4, 3, 3, padding=1)
        self.deep = nn.Conv2d(4, 2, 3, padding=1)
        self.act = nn.ReLU()
        self.left = nn.Linear(3 * 36, 5)
        self.right = nn.Linear(2 * 36, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.first(x)), 2)
        a = self.act(self.wide(x)).view(x.size(0), -1)
        b = torch.flatten(self.act(self.deep(x)), 1)
        return self.left(a) + self.right(b)


class Residual(nn.Module):
    """A sum of two layers' units, which it ties to one group; the second layer reads it, too."""

    input_shape = (1, 2, 2)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 3)
        self.second = nn.Linear(3, 3)
        self.output = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(torch.flatten(x, 1)))
        return self.output(x + torch.relu(self.second(x)))


class Bypassed(nn.Module):
    """A sum of units with the pixels: their ways end in it, each in its own place."""

    input_shape = (1, 2, 2)

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 5)
        self.second = nn.Linear(5, 4)
        self.output = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.flatten(x, 1)
        return self.output(x + torch.relu(self.second(torch.relu(self.first(x)))))


class Inverted(nn.Module):
    """Inverted residuals as in MobileNetV2: depthwise convolutions, linear bottlenecks, a sum of two of them."""

    def __init__(self, width: int = 3, wide: int = 5, each: int = 1) -> None:
        super().__init__()
        self.stem, self.first_wide = nn.Conv2d(1, width, 3, 2, 1), nn.Conv2d(width, wide, 1, bias=False)
        self.first_norm, self.first_deep = nn.BatchNorm2d(wide), nn.Conv2d(wide, wide * each, 3, 1, 1, groups=wide)
        self.first_narrow, self.narrow_norm = nn.Conv2d(wide * each, width, 1, bias=False), nn.BatchNorm2d(width)
        self.act, self.last, self.pool = nn.ReLU6(), nn.Conv2d(width, 4, 1), nn.AdaptiveAvgPool2d(1)
        self.output = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        wide = self.act(self.first_deep(self.act(self.first_norm(self.first_wide(x)))))
        x = x + self.narrow_norm(self.first_narrow(wide))
        return self.output(self.pool(self.act(self.last(x))).flatten(1))


class Forked(nn.Module):
    """Two convolutions of one, concatenated, normalised, flattened; the second has a way around as well."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.left, self.right = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 3, 1), nn.Conv2d(4, 2, 1, groups=2)
        self.norm, self.pool = nn.BatchNorm2d(5), nn.MaxPool2d(2)
        self.after, self.output = nn.Conv2d(5, 3, 1), nn.Linear((3 + 2) * 25, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        right = torch.relu(self.right(x))
        both = self.norm(torch.cat([torch.relu(self.left(x)), right], dim=1))
        ways = [self.pool(torch.relu(self.after(both))).flatten(1), self.pool(right).flatten(1)]
        return self.output(torch.cat(ways, 1))


class Series(nn.Module):
    """Convolutions and pools along one axis."""

    input_shape = (2, 11)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv1d(2, 4, 3, padding=1), nn.BatchNorm1d(4)
        self.second, self.pool = nn.Conv1d(4, 6, 2, groups=2, stride=2), nn.MaxPool1d(2)
        self.output = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(torch.relu(self.norm(self.first(x))))
        return self.output(torch.relu(self.second(x)).mean(-1))


def mixed(seed: int = 0) -> nn.Sequential:
    """Grouped and strided convolutions, BatchNorms with and without affine, both pools, dropout."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, groups=2, padding=1, stride=2),
        nn.BatchNorm2d(8, affine=False),
        nn.ReLU(),
        nn.AvgPool2d(3),
        nn.Flatten(),
        nn.Linear(8, 7),
        nn.BatchNorm1d(7),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(7, 3),
    )
    return stir(model, seed)


def stir(model: Module, seed: int) -> Module:
    """Give BatchNorms statistics and affines that are not 0 and 1, so that forgetting them shows."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            for name in ("weight", "bias", "running_mean", "running_var"):
                value = getattr(module, name)
                if value is not None:
                    value.data.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    return model.eval()


@st.composite
def chains(draw: st.DrawFn) -> nn.Sequential:
    """Random convolutions (stride, padding, dilation, bias, BatchNorm, pool), then random dense layers."""
    seed = draw(st.integers(0, 2**16))
    torch.manual_seed(seed)
    parts: list[nn.Module] = []
    channels, side = draw(st.integers(1, 2)), SIDE
    for _ in range(draw(st.integers(0, 2))):
        width, kernel = draw(st.integers(1, 5)), draw(st.integers(1, min(3, side)))
        stride, padding = draw(st.integers(1, 2)), draw(st.integers(0, 1))
        parts += [nn.Conv2d(channels, width, kernel, stride, padding, bias=draw(st.booleans()))]
        parts += [nn.BatchNorm2d(width, affine=draw(st.booleans()))] if draw(st.booleans()) else []
        parts += [nn.ReLU()]
        channels, side = width, (side + 2 * padding - kernel) // stride + 1
        if draw(st.booleans()) and side >= 2:
            parts += [draw(st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]))(2)]
            side //= 2
    first = next((p.in_channels for p in parts if isinstance(p, nn.Conv2d)), channels)
    parts += [nn.Flatten()]
    features = channels * side * side
    for _ in range(draw(st.integers(1, 2))):
        width = draw(st.integers(1, 6))
        parts += [nn.Linear(features, width, bias=draw(st.booleans()))]
        parts += [nn.BatchNorm1d(width)] if draw(st.booleans()) else []
        parts += [nn.ReLU()]
        features = width
    model = stir(nn.Sequential(*parts, nn.Linear(features, 3)), seed)
    model.input_shape = (first, SIDE, SIDE)
    return model


def example(model: nn.Module, images: int = 3, seed: int = 0) -> Tensor:
    shape = getattr(model, "input_shape", (1, SIDE, SIDE))
    return torch.rand(images, *shape, generator=torch.Generator().manual_seed(seed))


def drawn_masks(model: nn.Module, layers: list[str], seed: int, keep: float = 0.5) -> Masks:
    """A random mask for every layer, at least one unit kept."""
    rng = np.random.default_rng(seed)
    masks = {}
    for layer in layers:
        mask = rng.random(model.get_submodule(layer).weight.shape[0]) < keep
        mask[rng.integers(len(mask))] = True
        masks[layer] = mask
    return masks


def compact_by_hand(model: nn.Sequential, masks: Masks) -> nn.Sequential:
    """The chain without the removed units: weights sliced layer after layer (no groups)."""
    parts: list[nn.Module] = []
    kept: Tensor | None = None
    for name, part in model.named_children():
        part = copy.deepcopy(part)
        if isinstance(part, nn.Linear | nn.Conv2d):
            weight = part.weight.data
            if kept is not None:
                weight = weight[:, kept.repeat_interleave(weight.shape[1] // len(kept))]
            kept = torch.from_numpy(masks.get(name, np.ones(len(weight), dtype=bool)))
            part.weight = nn.Parameter(weight[kept])
            part.bias = None if part.bias is None else nn.Parameter(part.bias.data[kept])
        elif isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            for key in ("weight", "bias"):
                value = getattr(part, key)
                setattr(part, key, None if value is None else nn.Parameter(value.data[kept]))
            part.running_mean, part.running_var = part.running_mean[kept], part.running_var[kept]
        parts.append(part)
    return nn.Sequential(*parts).eval()
