"""Accounting of a removal: the published count (incoming weights only) and the true one (the compacted network)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tracing.units import Reader
from training.pruning.dependencies import Links
from training.pruning.layer_shapes import attention_multiply_adds, layer_places
from training.pruning.masks import Masks, losing_units, makes_units, norm_width, output_width, row_parameters


@dataclass(frozen=True)
class LayerRemoval:
    """One parameterised layer before and after: units, parameters (biases included), multiply-adds for one image."""

    layer: str
    kind: str
    units: int
    units_removed: int
    parameters_before: int
    parameters_after: int
    multiply_adds_before: int
    multiply_adds_after: int


@dataclass(frozen=True)
class Removal:
    """What the masks remove.

    `units_total` and `units_removed` count the masked layers. `published_parameters_removed` is the published
    account: the incoming weights of the removed units as a share of all weights of Linear and convolutional layers and
    of attention's projections, biases left out. Parameters and multiply-adds are those of the network before and after
    compaction, incoming and outgoing cut; where units end in a sum, compaction puts those that stay back in their
    places there.
    """

    units_total: int
    units_removed: int
    published_parameters_removed: float
    parameters_before: int
    parameters_after: int
    multiply_adds_before: int
    multiply_adds_after: int
    layers: tuple[LayerRemoval, ...]

    @property
    def units_removed_share(self) -> float:
        """Removed units as a share of the units of the masked layers."""
        return self.units_removed / self.units_total if self.units_total else 0.0

    @property
    def parameters_removed_share(self) -> float:
        """Parameters that compaction saves as a share of all."""
        return 1.0 - self.parameters_after / self.parameters_before

    @property
    def multiply_adds_removed_share(self) -> float:
        """Multiply-adds that compaction saves as a share of all."""
        return 1.0 - self.multiply_adds_after / self.multiply_adds_before


def removal(model: nn.Module, masks: Masks, example_input: Tensor) -> Removal:
    """Count what the masks remove from the model, from shapes alone: weights that happen to be 0 count.

    Multiply-adds are the products of weights with activations for one image, one per weight and place of every call;
    biases and BatchNorm add none, nor do products of activations, as of queries with keys. A grouped convolution counts
    as one convolution per group, each with the inputs and outputs that it keeps.

    Args:
        model: before removal; left as it was.
        masks: by layer, bool [units]: True = kept.
        example_input: [n, ...], gives the shapes.

    Raises:
        MaskError: the masks do not fit the model.
        UnsupportedGraph: a removed unit cannot be followed.
    """
    losing, links = losing_units(model, masks, example_input)
    rows, columns = kept_axes(dict(model.named_modules()), losing, links)
    places = layer_places(model, example_input)
    projected = attention_multiply_adds(model, example_input)
    layers = tuple(
        _account(name, module, rows.get(name), columns.get(name), places.get(name, 0), projected.get(name, 0))
        for name, module in model.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    )
    weights = {
        name: getattr(part, row_parameters(part)[0]) for name, part in model.named_modules() if makes_units(part)
    }
    gone = sum(int((~rows[name]).sum()) * weight[0].numel() for name, weight in weights.items() if name in rows)
    return Removal(
        units_total=sum(len(mask) for mask in masks.values()),
        units_removed=sum(int((~mask).sum()) for mask in masks.values()),
        published_parameters_removed=gone / sum(weight.numel() for weight in weights.values()),
        parameters_before=sum(layer.parameters_before for layer in layers),
        parameters_after=sum(layer.parameters_after for layer in layers),
        multiply_adds_before=sum(layer.multiply_adds_before for layer in layers),
        multiply_adds_after=sum(layer.multiply_adds_after for layer in layers),
        layers=layers,
    )


def kept_axes(
    modules: Mapping[str, nn.Module], masks: Masks, links: Mapping[str, Links]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Per layer which outputs (rows) and which inputs (columns) stay; layers that keep all are absent."""
    rows: dict[str, Tensor] = {}
    columns: dict[str, Tensor] = {}
    for layer, mask in masks.items():
        removed = torch.from_numpy(~mask)
        for member in links[layer].members:
            _cut(rows, member, removed, output_width(modules[member.layer]))
        for carrier in links[layer].depthwise:
            _cut(columns, *_inputs_of(carrier, modules[carrier.layer], removed))
        for norm in links[layer].norms:
            _cut(rows, norm, removed, norm_width(modules[norm.layer]))
        for reader in links[layer].readers:
            _cut(columns, reader, removed, input_width(modules[reader.layer]))
    return rows, columns


def _cut(kept: dict[str, Tensor], reader: Reader, removed: Tensor, width: int) -> None:
    """Several layers may feed one reader: what any of them removes goes."""
    before = kept.get(reader.layer, torch.ones(width, dtype=torch.bool))
    kept[reader.layer] = before & ~reader.spread(removed, width)


def _inputs_of(carrier: Reader, module: nn.Module, removed: Tensor) -> tuple[Reader, Tensor, int]:
    """Where the units lie in what a depthwise convolution reads, from where they lie in what it emits."""
    width = input_width(module)
    each = output_width(module) // width
    return Reader(carrier.layer, carrier.span // each, carrier.offset // each), removed, width


def input_width(module: nn.Module) -> int:
    """How many inputs a layer reads on axis 1, over all groups."""
    assert isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
    return module.in_features if isinstance(module, nn.Linear) else module.in_channels


def _account(
    name: str, module: nn.Module, rows: Tensor | None, columns: Tensor | None, places: int, projected: int
) -> LayerRemoval:
    parameters = sum(value.numel() for value in module.parameters(recurse=False))
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
        weights, weights_after = module.weight.numel(), _weights_after(module, rows, columns)
        units = module.weight.shape[0]
        removed = 0 if rows is None else int((~rows).sum())
        bias = 0 if module.bias is None else 1
        after = weights_after + bias * (units - removed)
        work, work_after = weights * places, weights_after * places
    else:
        # Of the other layers only a BatchNorm on a unit's way shrinks, by weight and bias per channel, and attention,
        # by the same rows of queries, keys and values.
        units = 0 if rows is None else len(rows)
        removed = 0 if rows is None else int((~rows).sum())
        after = parameters - (parameters // units * removed if units else 0)
        work, work_after = projected, projected * (units - removed) // units if units else projected
    return LayerRemoval(name, type(module).__name__, units, removed, parameters, after, work, work_after)


def _weights_after(module: nn.Linear | nn.Conv1d | nn.Conv2d, rows: Tensor | None, columns: Tensor | None) -> int:
    groups = module.groups if isinstance(module, nn.Conv1d | nn.Conv2d) else 1
    outputs = module.weight.shape[0]
    inputs = module.weight.shape[1] * groups
    rows = torch.ones(outputs, dtype=torch.bool) if rows is None else rows
    columns = torch.ones(inputs, dtype=torch.bool) if columns is None else columns
    pairs = zip(rows.chunk(groups), columns.chunk(groups), strict=True)
    kernel = module.weight[0, 0].numel()
    return sum(int(part.sum()) * int(read.sum()) for part, read in pairs) * kernel
