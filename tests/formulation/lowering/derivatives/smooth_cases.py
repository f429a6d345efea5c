"""Small float64 networks that no lowering takes, built from a seed, and how torch itself gates their units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from formulation.lowering import differentiable
from tests.attention_networks import SHAPE, attention_network
from tests.formulation.cases import Case


class Swish(nn.Module):
    """x sigmoid(x) as people write it, by two readers of its pre-activations."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)


class Excitation(nn.Module):
    """Squeeze-and-excitation: channels scaled by what a small network makes of their means."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze, self.gate, self.excite = nn.Conv2d(width, 2, 1), nn.SiLU(), nn.Conv2d(2, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.excite(self.gate(self.squeeze(x.mean((2, 3), keepdim=True)))))


class GatedUnit(nn.Module):
    """A gated linear unit: value(x) silu(gate(x)), then a way back."""

    def __init__(self, fed: int, width: int) -> None:
        super().__init__()
        self.value, self.gate, self.back = nn.Linear(fed, width), nn.Linear(fed, width), nn.Linear(width, fed)

    def forward(self, x: Tensor) -> Tensor:
        return self.back(self.value(x) * F.silu(self.gate(x)))


class EncoderBlock(nn.Module):
    """A block of a vision transformer, its norms before attention and before the MLP on tokens."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.widen, self.act, self.narrow = nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.first_norm(x)
        x = x + self.attention(normed, normed, normed, need_weights=False)[0]
        return x + self.narrow(self.act(self.widen(self.second_norm(x))))


class Tokens(nn.Module):
    """A small transformer: patches, one block, the mean over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.block, self.head = nn.Conv2d(1, 4, 2, stride=2), EncoderBlock(4, 2, 5), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


class Scaled(nn.Module):
    """What follows on tokens: attention as a function of three layers, no module of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(3, 4)
        self.query, self.key, self.value = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.leave = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.enter(x))
        mixed = F.scaled_dot_product_attention(self.query(x), self.key(x), self.value(x))
        return self.leave(mixed.mean(1))


class Sliced(nn.Module):
    """Half of the units go through another layer, all of them on beside it."""

    def __init__(self, act: type[nn.Module] = nn.SiLU) -> None:
        super().__init__()
        self.first, self.act = nn.Linear(3, 6), act()
        self.again, self.other, self.last = nn.Linear(3, 4), act(), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.first(x))
        return self.last(torch.cat([x, self.other(self.again(x[:, :3]))], 1))


class Halved(Sliced):
    """The units are parted, as in ShuffleNet: a half goes through another layer, the other one stays."""

    def __init__(self, act: type[nn.Module] = nn.SiLU) -> None:
        super().__init__(act)
        self.last = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        kept, changed = self.act(self.first(x)).chunk(2, 1)
        return self.last(torch.cat([kept, self.other(self.again(changed))], 1))


class Shortened(Sliced):
    """Entries that are no units lie beside them until a slice leaves the units alone."""

    def forward(self, x: Tensor) -> Tensor:
        beside = torch.cat([x, self.act(self.first(x))], 1)
        return self.last(torch.cat([beside[:, 3:], self.other(self.again(beside[:, :3]))], 1))


class Modulated(nn.Module):
    """Channels scaled, and shifted where it is asked for, by what layers make of the pixels."""

    def __init__(self, *, shifted: bool) -> None:
        super().__init__()
        self.conv, self.again, self.last = nn.Conv2d(1, 4, 2), nn.Conv2d(4, 3, 2), nn.Linear(3, 3)
        self.scale, self.shift = nn.Linear(9, 4), nn.Linear(9, 4) if shifted else None

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.flatten(1)
        made = torch.relu(self.conv(x)) * torch.tanh(self.scale(pixels))[:, :, None, None]
        if self.shift is not None:
            made = made + self.shift(pixels)[:, :, None, None]
        return self.last(F.gelu(self.again(made)).flatten(1))


class Attended(nn.Module):
    """Pixels of all channels scaled by what a small network makes of each."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.where, self.again, self.last = (
            nn.Conv2d(1, 4, 2),
            nn.Conv2d(4, 1, 1),
            nn.Conv2d(4, 3, 2),
            nn.Linear(3, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        made = F.gelu(self.conv(x))
        return self.last(F.gelu(self.again(made * torch.sigmoid(self.where(made)))).flatten(1))


class GatedTokens(nn.Module):
    """A gated linear unit on tokens, and the mean over these."""

    def __init__(self) -> None:
        super().__init__()
        self.unit, self.head = GatedUnit(3, 4), nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.gelu(self.unit(x)).mean(1))


def smooth(seed: int, model: nn.Module, shape: tuple[int, ...], *, images: int = 2) -> Case:
    """A case whose weights and images are drawn from the seed; `gates` stays empty."""
    draw = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for name, value in (*model.named_parameters(), *model.named_buffers()):
            if value.is_floating_point():
                drawn = torch.randn(value.shape, generator=draw, dtype=torch.float64)
                value.copy_(drawn.abs() + 0.5 if name.endswith("running_var") else drawn)
        pixels = torch.rand((images, *shape), generator=draw, dtype=torch.float64)
        labels = model(pixels).argmax(1)
    return Case(model, {}, pixels, labels)


def gelu_mlp(seed: int = 0) -> Case:
    return smooth(seed, nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 3)), (3,))


def swish(seed: int = 0) -> Case:
    layers = [nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), Swish(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(3, 3)]
    return smooth(seed, nn.Sequential(*layers), (1, 3, 3))


class HandWritten(nn.Module):
    """A leaky ReLU in one of the ways in which people write it out."""

    def __init__(self, way: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        return self.way(x)


def leaky_by_hand(seed: int = 0) -> Case:
    chosen = HandWritten(lambda x: torch.where(x >= 0, x, 0.1 * x))
    larger = HandWritten(lambda x: torch.max(x, 0.1 * x))
    layers = [nn.Conv2d(1, 3, 2), chosen, nn.Flatten(), nn.Linear(12, 4), larger, nn.Linear(4, 3)]
    return smooth(seed, nn.Sequential(*layers), (1, 3, 3))


def hardswish_excited(seed: int = 0) -> Case:
    layers = [nn.Conv2d(1, 3, 2), nn.Hardswish(), Excitation(3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3)]
    return smooth(seed, nn.Sequential(*layers), (1, 3, 3))


def group_normed(seed: int = 0) -> Case:
    layers = [nn.Conv2d(1, 4, 2), nn.GroupNorm(2, 4), nn.SiLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 3)]
    return smooth(seed, nn.Sequential(*layers), (1, 3, 3))


def gated_units(seed: int = 0) -> Case:
    return smooth(seed, nn.Sequential(GatedUnit(3, 4), nn.Linear(3, 3)), (3,))


def tokens(seed: int = 0) -> Case:
    return smooth(seed, Tokens(), (1, 4, 4))


def function_attention(seed: int = 0) -> Case:
    return smooth(seed, Scaled(), (4, 3))


def sliced(seed: int = 0) -> Case:
    return smooth(seed, Sliced(), (3,))


def halved(seed: int = 0) -> Case:
    return smooth(seed, Halved(), (3,))


def shortened(seed: int = 0) -> Case:
    return smooth(seed, Shortened(), (3,))


def gated_tokens(seed: int = 0) -> Case:
    return smooth(seed, GatedTokens(), (4, 3))


def attention(name: str, mlp: str) -> Callable[[int], Case]:
    return lambda seed=0: smooth(seed, attention_network(name, mlp, 3, 2, 4, seed), SHAPE)


# Each with the module behind whose output the units' gates act: the activation behind a layer; where it is a Linear, it
# reads the units, and its columns are gated.
SMOOTH: dict[str, tuple[Callable[[int], Case], Mapping[str, str]]] = {
    "gelu and sigmoid": (gelu_mlp, {"0": "1", "2": "3"}),
    "hand-written swish": (swish, {"0": "2"}),
    "leaky ReLUs by hand": (leaky_by_hand, {"0": "1", "3": "4"}),
    "squeeze and excitation": (hardswish_excited, {"0": "1", "2.squeeze": "2.gate"}),
    "group norm": (group_normed, {"0": "2"}),
    "transformer": (tokens, {"block.attention": "block.attention.out_proj", "block.widen": "block.act"}),
    "gated units on tokens": (gated_tokens, {"unit.value": "unit.back", "unit.back": "head"}),
    "heads of three layers": (attention("explicit", "mlp"), {"attention.query": "attention.proj", "mlp.0": "mlp.1"}),
    "heads of one layer": (
        attention("fused", "glu layer"),
        {"attention.qkv": "attention.proj", "mlp.wide": "mlp.narrow"},
    ),
    "slice": (sliced, {"first": "act", "again": "other"}),
    "chunk": (halved, {"first": "act", "again": "other"}),
    "slice of what lies beside": (shortened, {"first": "act", "again": "other"}),
}


def hooked_logits(case: Case, acts: Mapping[str, str], gates: Mapping[str, Tensor]) -> Tensor:
    """Logits [images, classes] with each activation module's output times its units' gates, by forward hooks."""

    def multiplied(gate: Tensor) -> Callable[..., Tensor]:
        def hook(_module: nn.Module, _given: object, output: Tensor) -> Tensor:
            last = output.ndim == 3  # on tokens
            return output * (gate if last else gate.reshape(1, -1, *[1] * (output.ndim - 2)))

        return hook

    weights = {}
    with ExitStack() as stack:
        for layer, act in acts.items():
            behind = case.model.get_submodule(act)
            if isinstance(behind, nn.Linear):
                columns = gates[layer].repeat_interleave(behind.in_features // len(gates[layer]))
                weights[f"{act}.weight"] = behind.weight.detach() * columns
            else:
                stack.callback(behind.register_forward_hook(multiplied(gates[layer])).remove)
        return torch.func.functional_call(case.model, weights, (case.images,))


def hooked_jacobian(case: Case, acts: Mapping[str, str]) -> dict[str, np.ndarray]:
    """By layer the derivatives of the logits by the gates at 1, [images, classes, units], by torch's own Jacobian."""
    units = differentiable(case.model, case.images).units
    ones = {layer: torch.ones(units[layer], dtype=torch.float64) for layer in acts}
    names = list(ones)
    found = torch.autograd.functional.jacobian(
        lambda *gates: hooked_logits(case, acts, dict(zip(names, gates, strict=True))), tuple(ones.values())
    )
    return {name: slopes.numpy() for name, slopes in zip(names, found, strict=True)}
