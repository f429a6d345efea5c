"""Accounting of a removal: the published count (incoming weights only) and the true one (the compacted network)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from tracing import WEIGHTED
from tracing.units import Reader
from training.inference import evaluating, weight_type
from training.pruning.dependencies import Links, consumers
from training.pruning.masks import Masks, validate_masks


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
    account: the incoming weights of the removed units as a share of all weights of Linear and convolutional layers,
    biases left out. Parameters and multiply-adds are those of the network before and after compaction, incoming and
    outgoing cut; where units end in a sum, compaction puts those that stay back in their places there.
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

    Multiply-adds are the products of weights with activations, one per weight and position, for one image; biases and
    BatchNorm add none. A grouped convolution counts as one convolution per group, each with the inputs and outputs that
    it keeps.

    Args:
        model: before removal; left as it was.
        masks: by layer, bool [units]: True = kept.
        example_input: [n, ...], gives the shapes.

    Raises:
        MaskError: the masks do not fit the model.
        UnsupportedGraph: a removed unit cannot be followed.
    """
    validate_masks(model, masks)
    links = consumers(model, example_input, masks)
    rows, columns = kept_axes(dict(model.named_modules()), masks, links)
    emitted = {name: shape for name, (_, shape) in layer_shapes(model, example_input).items()}
    layers = tuple(
        _account(name, module, rows.get(name), columns.get(name), emitted.get(name, torch.Size([0])))
        for name, module in model.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    )
    weights = {name: part.weight for name, part in model.named_modules() if isinstance(part, WEIGHTED)}
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
            # torch types every attribute of a module as a tensor or a module; a norm's width is a number.
            _cut(rows, norm, removed, int(modules[norm.layer].num_features))  # type: ignore[arg-type]
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


def output_width(module: nn.Module) -> int:
    """How many units a layer emits on axis 1."""
    assert isinstance(module, WEIGHTED)
    return module.weight.shape[0]


def input_width(module: nn.Module) -> int:
    """How many inputs a layer reads on axis 1, over all groups."""
    assert isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
    return module.in_features if isinstance(module, nn.Linear) else module.in_channels


def layer_shapes(model: nn.Module, example_input: Tensor) -> dict[str, tuple[torch.Size, torch.Size]]:
    """The shapes that each Linear and convolutional layer reads and emits for one image, in the order of the calls.

    Args:
        model: left as it was.
        example_input: [n, ...], of which one image is passed through.

    Returns:
        By layer: (shape read, shape emitted), both without the axis of images.
    """
    found: dict[str, tuple[torch.Size, torch.Size]] = {}

    def note(name: str, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        found[name] = (inputs[0].shape[1:], output.shape[1:])

    hooks = [
        part.register_forward_hook(partial(note, name))
        for name, part in model.named_modules()
        if isinstance(part, WEIGHTED)
    ]
    weight = next(model.parameters(), example_input)
    try:
        with evaluating(model), torch.no_grad():
            model(example_input[:1].to(weight.device, weight_type(model)))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _account(
    name: str, module: nn.Module, rows: Tensor | None, columns: Tensor | None, emitted: torch.Size
) -> LayerRemoval:
    parameters = sum(value.numel() for value in module.parameters(recurse=False))
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
        weights, weights_after = module.weight.numel(), _weights_after(module, rows, columns)
        units = module.weight.shape[0]
        removed = 0 if rows is None else int((~rows).sum())
        bias = 0 if module.bias is None else 1
        after = weights_after + bias * (units - removed)
        positions = emitted.numel() // units  # at how many places of one image the layer is applied
        work, work_after = weights * positions, weights_after * positions
    else:
        # Of the other layers only a BatchNorm on a unit's way shrinks: weight and bias per channel.
        units = 0 if rows is None else len(rows)
        removed = 0 if rows is None else int((~rows).sum())
        after = parameters - (parameters // units * removed if units else 0)
        work = work_after = 0
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
