"""Latency of each layer at each width: the data of a budget on measured seconds."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.cost.latency import check_measurement, take_turns, time_pass
from training.devices import torch_threads
from training.errors import SelectionError
from training.inference import weight_type
from training.pruning import Links, consumers, input_width, layer_shapes
from training.pruning.compaction import Axis, compact, shrink

# What to time, and a table's place for each: rows by the producer's widths, columns by the consumer's.
Grid = list[list[Callable[[], float]]]


@dataclass(frozen=True, eq=False)
class LayerLatency:
    """Median seconds by how many units `producer` keeps (rows) and how many `consumer` keeps (columns).

    `seconds[i, j]` belongs to `widths[producer][i]` and `widths[consumer][j]`; a side that is None has one entry.
    `layer` is the layer measured; None where the table holds what lies between the layers, as `layer_latencies` says.
    """

    layer: str | None
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
    """Tables whose sum, see `estimated_seconds`, is the network's latency at any choice of one width for each layer.

    - One table for each Linear and convolutional layer and each layer of `widths` that feeds it, measured with these
      inputs alone, and one for inputs that none of them feeds. The units of a width lie evenly over the layer.
    - A depthwise convolution on the units' way has a table of theirs alone.
    - What lies between (BatchNorm, ReLU, pools, sums): a constant, and one column for each layer of `widths`. They are
      what the compacted network takes beyond the tables, all layers at their largest widths but this one. So the sum
      is the measured latency where at most one layer differs from its largest width, and an estimate elsewhere;
      entries may be negative.

    All is measured on the CPU, all entries taking turns.

    Args:
        model: left as it was.
        example_input: [n, ...], gives the shapes.
        widths: by layer, the numbers of units to measure it at.
        batch: images per timed pass.
        seconds: spent on each entry.
        threads: of torch.

    Returns:
        Tables in seconds per batch, [widths of the producer, widths of the consumer].

    Raises:
        SelectionError: widths out of range.
        UnsupportedGraph: units cannot be followed.
        FitSettingsError: a batch, a time or a number of threads out of range.
    """
    check_measurement(batch, seconds)
    links = consumers(model, example_input, widths)
    for layer, link in links.items():
        if not widths[layer] or not all(1 <= width <= link.units for width in widths[layer]):
            raise SelectionError(f"widths of {layer!r} are {list(widths[layer])}: give numbers from 1 to {link.units}")
    still = copy.deepcopy(model).cpu().eval()
    grids: dict[tuple[str, str | None], Grid] = {}
    made_by = {row.layer: group for group, link in links.items() for row in link.makers}
    for name, (shape, _) in layer_shapes(still, example_input.cpu()).items():
        measured = still.get_submodule(name)
        carried = [link for link in links.values() if name in {each.layer for each in link.depthwise}]
        for link in carried:
            grids[name, link.layer] = _carried(measured, name, link, widths[link.layer], (batch, *shape))
        if carried:
            continue
        for producer, inputs in _feeding(measured, name, links, widths):
            grids[name, producer] = _grid(
                measured, inputs, _outputs(measured, name, made_by, links, widths), (batch, *shape)
            )
    networks = _networks(still, example_input, links, widths, batch)
    passes = [each for grid in (*grids.values(), networks) for row in grid for each in row]
    with torch_threads(threads):
        medians = iter([statistics.median(times) for times in take_turns(passes, seconds * len(passes))])
    tables = [
        LayerLatency(name, producer, made_by.get(name), _take(grid, medians))
        for (name, producer), grid in grids.items()
    ]
    whole = [list(islice(medians, len(row))) for row in networks]
    return (*tables, *what_lies_between(tables, widths, whole))


def estimated_seconds(tables: Iterable[LayerLatency], positions: Mapping[str, int]) -> float:
    """The network's latency at a choice of widths, as the sum of its layers' tables.

    Args:
        tables: what `layer_latencies` measured.
        positions: by layer, which of its `widths` it has; a layer that is not named has the first.

    Returns:
        Seconds per batch.
    """
    return sum(
        float(table.seconds[positions.get(table.producer or "", 0), positions.get(table.consumer or "", 0)])
        for table in tables
    )


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


def _outputs(
    layer: nn.Module,
    name: str,
    made_by: Mapping[str, str],
    links: Mapping[str, Links],
    widths: Mapping[str, Sequence[int]],
) -> list[Tensor]:
    """Which outputs the layer keeps at each width of the group whose units it makes; all where it makes none."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    if name not in made_by:
        return [torch.ones(len(weight), dtype=torch.bool)]
    link = links[made_by[name]]
    return [link.rows_of(name, _spread(link.units, width), len(weight)) for width in widths[link.layer]]


def _grid(layer: nn.Module, inputs: Sequence[Tensor], kept: Sequence[Tensor], shape: tuple[int, ...]) -> Grid:
    """A pass of the layer for each choice of inputs and of its own outputs; `shape` is of a batch that it reads."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    grid: Grid = []
    for read in inputs:
        width = int(read.sum())
        # A Linear reads the last axis: tokens lie before it, pixels behind a convolution's.
        smaller_shape = (*shape[:-1], width) if isinstance(layer, nn.Linear) else (shape[0], width, *shape[2:])
        images = torch.zeros(*smaller_shape, dtype=weight.dtype)
        smaller = [shrink(layer, Axis(units, units), Axis(read, read)) for units in kept]
        grid.append([partial(time_pass, each, images) for each in smaller])
    return grid


def _carried(layer: nn.Module, name: str, link: Links, widths: Sequence[int], shape: tuple[int, ...]) -> Grid:
    """A pass of a depthwise convolution for each width of the units that it carries: its inputs go with its outputs."""
    weight, width = layer.weight, input_width(layer)
    assert isinstance(weight, Tensor)
    grid: Grid = []
    for kept in (_spread(link.units, each) for each in widths):
        units = torch.stack([each.spread(kept, len(weight)) for each in link.depthwise if each.layer == name]).any(0)
        read = units.reshape(width, -1).any(1)
        images = torch.zeros(shape[0], int(read.sum()), *shape[2:], dtype=weight.dtype)
        grid.append([partial(time_pass, shrink(layer, Axis(units, units), Axis(read, read)), images)])
    return grid


def _networks(
    model: nn.Module,
    example_input: Tensor,
    links: Mapping[str, Links],
    widths: Mapping[str, Sequence[int]],
    batch: int,
) -> Grid:
    """A pass of the network with all layers at their largest widths; then a row for each layer, at each of its."""
    largest = {layer: max(grid) for layer, grid in widths.items()}
    choices = [[largest], *([{**largest, layer: width} for width in grid] for layer, grid in widths.items())]
    images = torch.zeros(batch, *example_input.shape[1:], dtype=weight_type(model))

    def timed(choice: Mapping[str, int]) -> Callable[[], float]:
        masks = {layer: _spread(links[layer].units, width).numpy() for layer, width in choice.items()}
        return partial(time_pass, compact(model, masks, images[:1]), images)

    return [[timed(choice) for choice in row] for row in choices]


def what_lies_between(
    tables: Sequence[LayerLatency], widths: Mapping[str, Sequence[int]], whole: Sequence[Sequence[float]]
) -> list[LayerLatency]:
    """What the measured networks take beyond the tables: a constant, and a column for each layer."""
    largest = {layer: int(np.argmax(grid)) for layer, grid in widths.items()}
    constant = whole[0][0] - estimated_seconds(tables, largest)
    found = [LayerLatency(None, None, None, np.array([[constant]]))]
    for layer, measured in zip(widths, whole[1:], strict=True):
        beyond = [
            taken - estimated_seconds(tables, {**largest, layer: position}) - constant
            for position, taken in enumerate(measured)
        ]
        beyond[largest[layer]] = 0.0  # the same network as the constant's, measured twice
        found.append(LayerLatency(None, None, layer, np.array([beyond])))
    return found


def _take(grid: Grid, medians: Iterator[float]) -> NDArray[np.float64]:
    """The next medians, in the shape of the grid."""
    return np.array([list(islice(medians, len(row))) for row in grid])


def _spread(units: int, width: int) -> Tensor:
    """A bool vector with `width` of the units, at even distances."""
    kept = torch.zeros(units, dtype=torch.bool)
    kept[torch.arange(width) * units // width] = True
    return kept
