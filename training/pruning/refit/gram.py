"""Gram matrices of a layer: second moments of its inputs and outputs, streamed over images in float64."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, unfold

from training.pruning.refit.passes import Fitted, Passes

NUMBERS = 2**24  # numbers of columns held at once
STRIPS, WIDE = 4, 256  # of a symmetric product, and the width from which on they pay


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
    return Gram(_second_moments(z), y.mT @ z, z.sum(1), y.sum(1), y.square().sum(1), z.shape[1])


def _second_moments(z: Tensor) -> Tensor:
    """sum z z^T per group, [groups, K, K]: the half below the diagonal in strips, the rest mirrored."""
    width = z.shape[2]
    step = -(-width // STRIPS) if width >= WIDE else max(1, width)
    found = z.new_empty(len(z), width, width)
    for start in range(0, width, step):
        end = min(width, start + step)
        found[:, start:, start:end] = z[:, :, start:].mT @ z[:, :, start:end]
        found[:, start:end, end:] = found[:, end:, start:end].mT
    return found


def unfold_columns(layer: Fitted, inputs: Tensor, kept: Tensor | None = None) -> Tensor:
    """All that a layer reads, as columns [groups, readings, K] in the order of its flattened weight, float64.

    Args:
        layer: any Linear, Conv1d or Conv2d, with stride, padding of any mode, dilation and groups.
        inputs: [n, ..., features] for a Linear layer, [n, channels, *places] for a convolution.
        kept: bool per column [K], for a layer of one group: the others are left out.
    """
    if isinstance(layer, nn.Linear):
        columns = inputs.reshape(1, -1, layer.in_features)
        return (columns if kept is None else columns[:, :, kept]).double()
    groups = layer.groups
    if kept is not None:
        # Channels of which no column is kept are not unfolded at all, but for one where that is all of them.
        by_channel = kept.reshape(inputs.shape[1], -1)
        read = by_channel.any(1)
        read[0] |= not bool(read.any())
        inputs, kept = inputs[:, read], by_channel[read].flatten()
    padded = pad(inputs, _padding(layer), mode="constant" if layer.padding_mode == "zeros" else layer.padding_mode)
    kernel, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
    if isinstance(layer, nn.Conv1d):
        padded, kernel, stride, dilation = padded.unsqueeze(2), (1, *kernel), (1, *stride), (1, *dilation)
    found = unfold(padded, kernel, dilation=dilation, stride=stride)
    n, width, places = found.shape
    grouped = found.reshape(n, groups, width // groups, places).permute(1, 0, 3, 2)
    # Turned round and made float64 in one copy.
    columns = torch.empty(grouped.shape, dtype=torch.float64, device=found.device).copy_(grouped)
    columns = columns.reshape(groups, n * places, -1)
    return columns if kept is None or bool(kept.all()) else columns[:, :, kept]


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
    reading: Sequence[Passes],
    aiming: Sequence[Passes],
    name: str,
    *,
    kept: Tensor | None = None,
    units: Tensor | None = None,
) -> Gram:
    """The Gram matrices of one layer: its inputs in one network, its outputs in another, or in the same.

    Args:
        reading: passes of the network whose layer `name` reads.
        aiming: those over the same images of the network whose layer `name` emits the targets, on the same device.
        name: of a Linear, Conv1d or Conv2d layer of both.
        kept: bool per column [K], for a layer of one group: the others are left out.
        units: bool per output [M], likewise.
    """
    total: Gram | None = None
    for one, other in zip(reading, aiming, strict=True):
        layer = one.network.get_submodule(name)
        assert isinstance(layer, Fitted)
        read, emitted = one.until(name)
        if other is not one:
            emitted = other.emitted(name)
        size = _rows_at_once(layer, emitted)
        for inputs, outputs in zip(torch.split(read, size), torch.split(emitted, size), strict=True):
            targets = targets_of(layer, outputs)
            part = gram_of(unfold_columns(layer, inputs, kept), targets if units is None else targets[:, :, units])
            total = part if total is None else total + part
    assert total is not None
    return total


def _rows_at_once(layer: Fitted, emitted: Tensor) -> int:
    """How many entries of the first axis of what a layer reads make as many columns as are held at once."""
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
