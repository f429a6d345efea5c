"""Unit costs, in parts of the whole network's cost: the data of a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from training.cost.layer_latency import estimated_seconds, layer_latencies
from training.cost.terms import What, cost_terms
from training.pruning import Limits, Masks

GRID = 8  # widths of a layer that latency is measured at
# (producer, consumer, cost): a number times the kept units of both, or a table by their widths; None stands for 1.
WidthsCost = tuple[str | None, str | None, float | NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class UnitCosts:
    """What kept units cost, in parts of the whole network's cost.

    Attributes:
        layers: those that may lose units.
        costs: (producer, consumer, cost) each, as `formulation.keep_within` takes them.
        widths: the widths that tables of costs were measured at, by layer; None where costs are counted.
        seconds: every measured entry, a table with one row each; empty where costs are counted.
    """

    layers: tuple[str, ...]
    costs: tuple[WidthsCost, ...]
    widths: Mapping[str, list[int]] | None = None
    seconds: dict[str, list[object]] = field(default_factory=dict)

    def up_to(self, left: Masks) -> UnitCosts:
        """The account of the widths that can still be kept: no layer keeps more units than it has left."""
        kept = {layer: int(left[layer].sum()) for layer in self.layers}
        if self.widths is None:
            return replace(self, widths={layer: list(range(1, most + 1)) for layer, most in kept.items()})
        widths = {layer: [width for width in grid if width <= kept[layer]] for layer, grid in self.widths.items()}
        # A layer that is None in a table has one row or column there.
        ends = {layer: len(grid) for layer, grid in widths.items()}
        costs: list[WidthsCost] = [
            (producer, consumer, np.asarray(cost)[: ends.get(producer or "", 1), : ends.get(consumer or "", 1)])
            for producer, consumer, cost in self.costs
        ]
        return replace(self, costs=tuple(costs), widths=widths)

    def cost_of(self, masks: Masks) -> float:
        """The part of the whole network's cost that remains under masks, whose widths are those of the tables."""
        kept = {layer: int(masks[layer].sum()) for layer in self.layers}
        return sum(self._entry(kept, *term) for term in self.costs)

    def _entry(self, kept: Mapping[str, int], producer: str | None, consumer: str | None, cost: object) -> float:
        values = np.asarray(cost, dtype=np.float64)
        if values.ndim == 0:
            return float(values) * kept.get(producer or "", 1) * kept.get(consumer or "", 1)
        assert self.widths is not None
        row, column = (0 if layer is None else self.widths[layer].index(kept[layer]) for layer in (producer, consumer))
        return float(values[row, column])


def counted_costs(
    model: nn.Module, layers: Sequence[str], widths: Mapping[str, int], example_input: Tensor, what: What
) -> UnitCosts:
    """What kept units cost in parameters or multiply-adds.

    Args:
        model: before removal.
        layers: names of those that may lose units.
        widths: units of these layers, and perhaps of others.
        example_input: [n, ...], gives the shapes.
        what: `parameters` or `multiply_adds` (of one image).

    Raises:
        SelectionError, UnsupportedGraph: as `cost_terms`.
    """
    terms = cost_terms(model, layers, example_input, what)
    whole = sum(
        cost * widths.get(producer or "", 1) * widths.get(consumer or "", 1) for producer, consumer, cost in terms
    )
    return UnitCosts(tuple(layers), tuple((producer, consumer, cost / whole) for producer, consumer, cost in terms))


def measured_costs(
    model: nn.Module, widths: Mapping[str, int], limits: Limits, example_input: Tensor, *, threads: int = 1
) -> UnitCosts:
    """What kept units cost in seconds, measured at a few of the widths that the limits allow.

    Args:
        model: before removal.
        widths: units of the layers that may lose some.
        limits: with one floor for all layers.
        example_input: [n, ...], gives the shapes.
        threads: of torch.

    Raises:
        SelectionError, UnsupportedGraph, FitSettingsError: as `layer_latencies`.
    """
    grids = {layer: _grid(limits, units) for layer, units in widths.items()}
    tables = layer_latencies(model, example_input, grids, threads=threads)
    whole = estimated_seconds(tables, {layer: len(grid) - 1 for layer, grid in grids.items()})
    rows = [
        (table.layer or "between layers", table.producer, table.consumer, kept_p, kept_c, float(table.seconds[i, j]))
        for table in tables
        for i, kept_p in enumerate(grids.get(table.producer or "", [None]))
        for j, kept_c in enumerate(grids.get(table.consumer or "", [None]))
    ]
    names = ("layer", "producer", "consumer", "producer_keeps", "consumer_keeps", "seconds")
    costs = tuple((table.producer, table.consumer, table.seconds / whole) for table in tables)
    return UnitCosts(tuple(widths), costs, grids, {name: [row[at] for row in rows] for at, name in enumerate(names)})


def _grid(limits: Limits, units: int) -> list[int]:
    floor = limits.floor
    assert isinstance(floor, int)
    allowed = sorted({limits.widened(width, units) for width in range(floor, units + 1)})
    places = np.linspace(0, len(allowed) - 1, min(GRID, len(allowed))).round().astype(int)
    return [allowed[place] for place in places]
