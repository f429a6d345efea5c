"""Gram matrices of a layer: second moments of its inputs and outputs, streamed over images in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, unfold

from tracing import parts_called
from training.inference import weight_type

Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]
Fitted = nn.Linear | nn.Conv1d | nn.Conv2d
NUMBERS = 2**24  # numbers of one batch's columns held at once


@dataclass(frozen=True, eq=False)
class Gram:
    """Sums over the readings z [K] of a layer and its targets y [M], for each of its groups; float64.

    A Linear layer reads once per image (or token), a convolution once per place of its output.

    Attributes:
        inner: sum z z', [groups, K, K].
        cross: sum y z', [groups, M, K].
        inputs: sum z, [groups, K].
        targets: sum y, [groups, M].
        squares: sum y^2, [groups, M].
        count: number of readings.
    """

    inner: Tensor
    cross: Tensor
    inputs: Tensor
    targets: Tensor
    squares: Tensor
    count: int

    def __add__(self, other: Gram) -> Gram:
        return Gram(
            self.inner + other.inner,
            self.cross + other.cross,
            self.inputs + other.inputs,
            self.targets + other.targets,
            self.squares + other.squares,
            self.count + other.count,
        )


def gram_of(read: Tensor, targets: Tensor) -> Gram:
    """The Gram matrices and sums of readings z and targets y, per group: sum z z^T, sum y z^T, sum z, sum y, sum y^2.

    Args:
        read: [groups, readings, K].
        targets: [groups, readings, M].
    """
    z, y = read.double(), targets.double()
    return Gram(z.mT @ z, y.mT @ z, z.sum(1), y.sum(1), y.square().sum(1), z.shape[1])


def unfold_columns(layer: Fitted, inputs: Tensor) -> Tensor:
    """All that a layer reads, as columns [groups, readings, K] in the order of its flattened weight.

    Args:
        layer: any Linear, Conv1d or Conv2d, with stride, padding of any mode, dilation and groups.
        inputs: [n, ..., features] for a Linear layer, [n, channels, *places] for a convolution.
    """
    if isinstance(layer, nn.Linear):
        return inputs.reshape(1, -1, layer.in_features)
    padded = pad(inputs, _padding(layer), mode="constant" if layer.padding_mode == "zeros" else layer.padding_mode)
    kernel, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
    if isinstance(layer, nn.Conv1d):
        padded, kernel, stride, dilation = padded.unsqueeze(2), (1, *kernel), (1, *stride), (1, *dilation)
    found = unfold(padded, kernel, dilation=dilation, stride=stride)
    n, _, places = found.shape
    grouped = found.reshape(n, layer.groups, -1, places).permute(1, 0, 3, 2)
    return grouped.reshape(layer.groups, n * places, -1)


def targets_of(layer: Fitted, outputs: Tensor) -> Tensor:
    """What a layer emits, as targets [groups, readings, M], the readings in the order of `unfold_columns`.

    Args:
        layer: a Linear or a convolution.
        outputs: [n, ...], as the layer emits them.
    """
    if isinstance(layer, nn.Linear):
        return outputs.reshape(1, -1, layer.out_features)
    n = len(outputs)
    grouped = outputs.reshape(n, layer.groups, layer.out_channels // layer.groups, -1).permute(1, 0, 3, 2)
    return grouped.reshape(layer.groups, -1, grouped.shape[-1])


def stream_gram(
    reading: nn.Module, aiming: nn.Module, name: str, images: Tensor, *, kept: Tensor | None = None
) -> Gram:
    """The Gram matrices of one layer: its inputs in one network, its outputs in another.

    Args:
        reading: the network whose layer `name` reads.
        aiming: the network whose layer `name` emits the targets; both in evaluation mode, on one device.
        name: of a Linear, Conv1d or Conv2d layer of both.
        images: [n, C, H, W]; never held as columns all at once.
        kept: bool per column [K], for a layer of one group: the others are left out.
    """
    layer = reading.get_submodule(name)
    assert isinstance(layer, Fitted)
    place, kind = layer.weight.device, weight_type(reading)
    total: Gram | None = None
    for batch in torch.split(images, _images_at_once(reading, name, images[:1].to(place, kind))):
        given = batch.to(place, kind)
        read, _ = _passing(reading, name, given)
        _, emitted = _passing(aiming, name, given)
        columns = unfold_columns(layer, read)
        part = gram_of(columns if kept is None else columns[:, :, kept], targets_of(layer, emitted))
        total = part if total is None else total + part
    assert total is not None
    return total


class _Reached(Exception):
    """The layer that was asked for has emitted: no error, the pass ends there."""


def _passing(network: nn.Module, name: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """What a layer reads and emits; the forward pass ends there."""
    seen: list[tuple[Tensor, Tensor]] = []

    def note(_: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        seen.append((given[0], made))
        raise _Reached

    with parts_called(network), _hooked(network.get_submodule(name), note), torch.no_grad(), suppress(_Reached):
        network(images)
    return seen[0]


@contextmanager
def _hooked(layer: nn.Module, note: Hook) -> Iterator[None]:
    handle = layer.register_forward_hook(note)
    try:
        yield
    finally:
        handle.remove()


def _images_at_once(network: nn.Module, name: str, image: Tensor) -> int:
    layer = network.get_submodule(name)
    assert isinstance(layer, Fitted)
    _, emitted = _passing(network, name, image)
    places = emitted[0].numel() // layer.weight.shape[0]
    return max(1, NUMBERS // max(1, places * layer.weight[0].numel() * getattr(layer, "groups", 1)))


def _padding(layer: nn.Conv1d | nn.Conv2d) -> list[int]:
    """Zeros (or mirrored places) before and after each axis, last axis first, as `torch.nn.functional.pad` reads it."""
    reach = [step * (size - 1) for step, size in zip(layer.dilation, layer.kernel_size, strict=True)]
    match layer.padding:
        case "same":
            sides = [(total // 2, total - total // 2) for total in reach]
        case "valid":
            sides = [(0, 0) for _ in reach]
        case given:
            sides = [(int(amount), int(amount)) for amount in given]
    return [amount for side in reversed(sides) for amount in side]


def weight_columns(layer: Fitted) -> Tensor:
    """A layer's weight as [groups, M, K], in the order of `unfold_columns`."""
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    weight = layer.weight.detach()
    return weight.reshape(groups, weight.shape[0] // groups, prod(weight.shape[1:]))
