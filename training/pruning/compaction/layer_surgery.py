"""One layer without the inputs and units that are gone: the same kind of layer wherever that is possible.

An axis is described by two bool vectors over what it was: `kept`, what the layer still computes with, and `present`,
what still arrives there or is expected from it. They differ where a sum or the forward's own shapes need every unit
in its place: the layer then picks the kept inputs, or puts its units back among zeros.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

Conv = nn.Conv1d | nn.Conv2d
Norm = nn.BatchNorm1d | nn.BatchNorm2d | nn.SyncBatchNorm


@dataclass(frozen=True, eq=False)
class Axis:
    """What an axis keeps and what is present on it: two bool vectors, kept within present."""

    kept: Tensor
    present: Tensor

    def reads(self) -> Tensor | None:
        """Where the kept entries lie among those present, None where they are the same."""
        return None if torch.equal(self.kept, self.present) else self.kept[self.present].nonzero()[:, 0]

    def places(self) -> Tensor | None:
        """For each entry present which of the kept it is, the number of kept where it is none: see `put_back`."""
        if torch.equal(self.kept, self.present):
            return None
        order = torch.where(self.kept, self.kept.cumsum(0) - 1, int(self.kept.sum()))
        return order[self.present]


def put_back(units: Tensor, places: Tensor, axis: int = 1) -> Tensor:
    """Units [n, kept, ...] at their places [present] among zeros: [n, present, ...]; or along another axis."""
    # One zero behind the units, so that one indexing does it; torch.export, ONNX and autograd know both steps.
    padded = functional.pad(units, (0, 0) * (units.ndim - 1 - axis % units.ndim) + (0, 1))
    return padded.index_select(axis, places)


class Placed(nn.Module):
    """Mixed into a layer: it picks the inputs `reads` and puts its units back at `places`; None does neither.

    The state dict has the names of the plain layer.
    """

    reads: Tensor | None
    places: Tensor | None
    axis = 1

    def place(self, reads: Tensor | None, places: Tensor | None) -> None:
        self.register_buffer("reads", reads, persistent=False)
        self.register_buffer("places", places, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.reads is None else x.index_select(self.axis, self.reads)
        units: Tensor = super().forward(x)  # that of the layer this is mixed into
        return units if self.places is None else put_back(units, self.places, self.axis)


class PlacedLinear(Placed, nn.Linear):
    """A Linear that picks inputs or puts units back, which lie on the last axis: tokens may lie before it."""

    axis = -1


class PlacedConv1d(Placed, nn.Conv1d):
    """A Conv1d that picks inputs or puts units back."""


class PlacedConv2d(Placed, nn.Conv2d):
    """A Conv2d that picks inputs or puts units back."""


class PlacedBatchNorm1d(Placed, nn.BatchNorm1d):
    """A BatchNorm1d that picks inputs or puts units back."""


class PlacedBatchNorm2d(Placed, nn.BatchNorm2d):
    """A BatchNorm2d that picks inputs or puts units back."""


class PlacedSyncBatchNorm(Placed, nn.SyncBatchNorm):
    """A SyncBatchNorm that picks inputs or puts units back."""


PLACED: Mapping[type[nn.Module], type[Placed]] = {
    nn.Linear: PlacedLinear,
    nn.Conv1d: PlacedConv1d,
    nn.Conv2d: PlacedConv2d,
    nn.BatchNorm1d: PlacedBatchNorm1d,
    nn.BatchNorm2d: PlacedBatchNorm2d,
    nn.SyncBatchNorm: PlacedSyncBatchNorm,
}


class GroupwiseConv(nn.Module):
    """What is left of a grouped convolution whose groups keep unequal numbers: one convolution for each shape of group.

    Units whose inputs are all gone emit what `bias` holds, after the parts' units. `order` puts all in their places.
    """

    bias: Tensor | None
    order: Tensor

    def __init__(self, conv: Conv, parts: list[nn.Module], bias: Tensor | None, order: Tensor) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        if isinstance(bias, nn.Parameter) or bias is None:
            self.register_parameter("bias", bias)
        else:
            self.register_buffer("bias", bias, persistent=False)
        self.register_buffer("order", order, persistent=False)
        self.spans = tuple(d * (k - 1) + 1 for d, k in zip(conv.dilation, conv.kernel_size, strict=True))
        self.stride = tuple(conv.stride)
        # torch keeps what "same" means here: two sides for each axis, last axis first.
        sides = conv._reversed_padding_repeated_twice
        self.padding = tuple(sides[i] + sides[i + 1] for i in range(0, len(sides), 2))[::-1]

    def forward(self, x: Tensor) -> Tensor:
        emitted = [part(x) for part in self.parts]
        if self.bias is not None:
            # Not from `emitted`, which is empty where no group has both inputs and units left.
            places = [
                (size + padding - span) // stride + 1
                for size, padding, span, stride in zip(x.shape[2:], self.padding, self.spans, self.stride, strict=True)
            ]
            emitted.append(self.bias.reshape(1, -1, *[1] * len(places)).expand(x.shape[0], -1, *places))
        return put_back(torch.cat(emitted, 1), self.order)


def shrink(layer: nn.Module, units: Axis, inputs: Axis | None = None) -> nn.Module:
    """A layer with the kept units, reading the kept inputs; the weights are copies.

    Args:
        layer: a Linear, Conv1d, Conv2d, BatchNorm or norm of frozen statistics, which keeps all units that are present;
            left as it was. The new one is of the same kind where all units
            that are present are kept.
        units: those that it emits.
        inputs: those that it reads; a BatchNorm's inputs are its units.
    """
    if isinstance(layer, nn.Linear):
        assert inputs is not None
        return _shrink_linear(layer, units, inputs)
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        assert inputs is not None
        return _shrink_conv(layer, units, inputs)
    return _shrink_norm(layer, units) if isinstance(layer, Norm) else _shrink_frozen(layer, units)


def _shrink_linear(layer: nn.Linear, units: Axis, inputs: Axis) -> nn.Module:
    sizes = (int(inputs.kept.sum()), int(units.kept.sum()), layer.bias is not None)
    values = {"weight": layer.weight[units.kept][:, inputs.kept], "bias": _some(layer.bias, units.kept)}
    return _make(nn.Linear, sizes, {}, layer, values, inputs.reads(), units.places())


def _shrink_norm(layer: Norm, units: Axis) -> nn.Module:
    sizes = (int(units.kept.sum()), layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
    values = {
        name: _some(getattr(layer, name), units.kept) for name in ("weight", "bias", "running_mean", "running_var")
    }
    kind = next(each for each in (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm) if isinstance(layer, each))
    values["num_batches_tracked"] = layer.num_batches_tracked
    return _make(kind, sizes, {}, layer, values, units.reads(), units.places())


def _shrink_frozen(layer: nn.Module, units: Axis) -> nn.Module:
    """A norm whose statistics and affine are buffers, one number per channel each."""
    made = copy.deepcopy(layer)
    for name, value in layer.named_buffers(recurse=False):
        setattr(made, name, value[units.kept].clone())
    return made


def _shrink_conv(layer: Conv, units: Axis, inputs: Axis) -> nn.Module:
    rows, columns = units.kept.chunk(layer.groups), inputs.kept.chunk(layer.groups)
    alike: dict[tuple[int, int], list[int]] = {}  # (units, inputs) that a group keeps -> the groups
    for group in range(layer.groups):
        alike.setdefault((int(rows[group].sum()), int(columns[group].sum())), []).append(group)
    fed = [groups for (outputs, width), groups in alike.items() if outputs and width]
    starved = [group for (outputs, width), groups in alike.items() if outputs and not width for group in groups]
    if len(fed) == 1 and not starved:
        return _conv(layer, units, inputs, fed[0], units.places())
    parts = [_conv(layer, units, inputs, groups, None) for groups in fed]
    lying = [_chosen(units.kept, layer.groups, groups) for groups in fed]
    bias: Tensor | None = None
    if starved and layer.bias is not None:
        lying.append(_chosen(units.kept, layer.groups, starved))
        bias = nn.Parameter(layer.bias.detach()[lying[-1]].clone(), layer.bias.requires_grad)
    elif not parts:  # nothing but zeros is left, which have to come from somewhere
        lying.append(_chosen(units.kept, layer.groups, starved))
        bias = layer.weight.new_zeros(len(lying[-1]))
    return GroupwiseConv(layer, parts, bias, _order(lying, units.present).to(layer.weight.device)).train(layer.training)


def _conv(layer: Conv, units: Axis, inputs: Axis, groups: list[int], places: Tensor | None) -> nn.Module:
    """The convolution of these groups alone, which keep equally many units and equally many inputs."""
    rows = _chosen(units.kept, layer.groups, groups)
    columns = _chosen(inputs.kept, layer.groups, groups)
    weights, own, read = (axis.chunk(layer.groups) for axis in (layer.weight, units.kept, inputs.kept))
    weight = torch.cat([weights[group][own[group]][:, read[group]] for group in groups])
    reads = None if torch.equal(columns, inputs.present.nonzero()[:, 0]) else _positions(columns, inputs.present)
    kind = nn.Conv1d if isinstance(layer, nn.Conv1d) else nn.Conv2d
    options = {name: getattr(layer, name) for name in ("kernel_size", "stride", "padding", "dilation", "padding_mode")}
    options |= {"groups": len(groups), "bias": layer.bias is not None}
    values = {"weight": weight, "bias": _some(layer.bias, rows)}
    return _make(kind, (len(columns), len(rows)), options, layer, values, reads, places)


def _make(
    kind: type[nn.Module],
    sizes: tuple[object, ...],
    options: Mapping[str, object],
    layer: nn.Module,
    values: Mapping[str, Tensor | None],
    reads: Tensor | None,
    places: Tensor | None,
) -> nn.Module:
    """A layer of this kind that holds the values, with the modes of the layer it is made from."""
    placed = reads is not None or places is not None
    # On meta, because drawing first weights would move torch's global generator.
    made = (PLACED[kind] if placed else kind)(*sizes, **options, device="meta")
    for name, value in values.items():
        before = getattr(layer, name)
        if value is not None and isinstance(before, nn.Parameter):
            setattr(made, name, nn.Parameter(value.detach().clone(), before.requires_grad))
        elif value is not None:
            setattr(made, name, value.detach().clone())
    if isinstance(made, Placed):
        device = next((value.device for value in values.values() if value is not None), torch.device("cpu"))
        made.place(*(None if index is None else index.to(device) for index in (reads, places)))
    return made.train(layer.training)


def _chosen(kept: Tensor, groups: int, chosen: list[int]) -> Tensor:
    """Where the kept entries of the chosen groups lie on the axis as it was."""
    inside = torch.zeros(groups, dtype=torch.bool)
    inside[chosen] = True
    return (kept & inside.repeat_interleave(len(kept) // groups)).nonzero()[:, 0]


def _positions(entries: Tensor, present: Tensor) -> Tensor:
    """Where entries of the axis as it was lie among those present."""
    return (present.cumsum(0) - 1)[entries]


def _order(lying: list[Tensor], present: Tensor) -> Tensor:
    """For each entry present its position in the concatenation of the lists, or behind it: see `put_back`."""
    entries = torch.cat(lying)
    order = torch.full((len(present),), len(entries))
    order[entries] = torch.arange(len(entries))
    return order[present]


def _some(value: Tensor | None, kept: Tensor) -> Tensor | None:
    return None if value is None else value[kept]
