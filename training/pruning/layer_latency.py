"""What each layer of a network costs in seconds at each width: the data of a budget on measured latency."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.devices import torch_threads
from training.errors import SelectionError
from training.inference import evaluating, weight_type
from training.pruning.accounting import input_width
from training.pruning.channels import Links, consumers
from training.pruning.latency import check_measurement, take_turns, time_pass
from training.pruning.operations import WEIGHTED
from training.pruning.smaller import Axis, shrink


@dataclass(frozen=True, eq=False)
class LayerLatency:
    """Median seconds of `layer` by how many units its producer keeps (rows) and how many it keeps itself (columns).

    `seconds[i, j]` belongs to `widths[producer][i]` and `widths[consumer][j]`; a side that is None has one entry: no
    layer of `widths` feeds these inputs, or `layer` itself is none of them (then all its units stay).
    """

    layer: str
    producer: str | None
    consumer: str | None
    seconds: NDArray[np.float64]


def layer_latencies(
    model: nn.Module,
    example_input: Tensor,
    widths: Mapping[str, Sequence[int]],
    *,
    batch: int = 64,
    seconds: float = 0.02,
    threads: int = 1,
) -> tuple[LayerLatency, ...]:
    """The seconds of every Linear and convolutional layer on a grid of kept widths, on the CPU: data for a budget.

    The cost of a choice of widths is the sum over the tables of their entries. A layer that several others feed has
    one table for each, measured with these inputs alone, and one more for inputs that none of them feeds; what lies
    between the layers (BatchNorm, ReLU, pools) is not measured. The units of a width are spread evenly over the
    layer, so that groups keep as equal numbers as they can. `seconds` are spent on each entry, entries in turns.
    Raises SelectionError for widths out of range, UnsupportedGraph, SettingsError.
    """
    check_measurement(batch, seconds)
    links = consumers(model, example_input, widths)
    for layer, link in links.items():
        if not widths[layer] or not all(1 <= width <= link.units for width in widths[layer]):
            raise SelectionError(f"widths of {layer!r} are {list(widths[layer])}: give numbers from 1 to {link.units}")
    tables = []
    for name, shape in _input_shapes(model, example_input).items():
        module = copy.deepcopy(model.get_submodule(name)).cpu().eval()
        for producer, grid in _feeding(module, name, links, widths):
            with torch_threads(threads):
                medians = _medians(module, grid, widths.get(name), (batch, *shape), seconds)
            tables.append(LayerLatency(name, producer, name if name in widths else None, medians))
    return tuple(tables)


def _feeding(
    layer: nn.Module, name: str, links: Mapping[str, Links], widths: Mapping[str, Sequence[int]]
) -> list[tuple[str | None, list[Tensor]]]:
    """Who feeds the layer, and for each of the producer's widths which inputs are then there."""
    rest = torch.ones(input_width(layer), dtype=torch.bool)
    feeding: list[tuple[str | None, list[Tensor]]] = []
    for producer, link in links.items():
        readers = [reader for reader in link.readers if reader.layer == name]
        if not readers:
            continue
        grid = []
        for width in widths[producer]:
            kept = _spread(link.units, width)
            grid.append(torch.stack([reader.spread(kept, len(rest)) for reader in readers]).any(0))
        feeding.append((producer, grid))
        for reader in readers:
            rest &= ~reader.spread(torch.ones(link.units, dtype=torch.bool), len(rest))
    return [*feeding, *([(None, [rest])] if bool(rest.any()) else [])]


def _medians(
    layer: nn.Module, grid: Sequence[Tensor], own: Sequence[int] | None, shape: tuple[int, ...], seconds: float
) -> NDArray[np.float64]:
    """Median seconds [inputs, units] of the layer for each choice of inputs and each of its own widths."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    own = [len(weight)] if own is None else own
    passes = []
    for inputs in grid:
        images = torch.zeros(shape[0], int(inputs.sum()), *shape[2:]).to(weight.dtype)
        for width in own:
            smaller = shrink(layer, _all(_spread(len(weight), width)), _all(inputs))
            passes.append(partial(time_pass, smaller, images))
    taken = take_turns(passes, seconds * len(passes))
    return np.array([statistics.median(times) for times in taken]).reshape(len(grid), len(own))


def _input_shapes(model: nn.Module, example_input: Tensor) -> dict[str, tuple[int, ...]]:
    """The shape of what each Linear and convolutional layer reads, for one image, in the order of their calls."""
    found: dict[str, tuple[int, ...]] = {}

    def note(name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found[name] = tuple(inputs[0].shape[1:])

    hooks = [
        part.register_forward_pre_hook(partial(note, name))
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


def _all(kept: Tensor) -> Axis:
    return Axis(kept, kept)


def _spread(units: int, width: int) -> Tensor:
    """A bool vector with `width` of the units, at even distances."""
    kept = torch.zeros(units, dtype=torch.bool)
    kept[torch.arange(width) * units // width] = True
    return kept
