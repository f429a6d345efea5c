"""Cost terms of kept units: plain values, folded into one table per pair of layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from formulation.budget.layer_widths import Choices, require_layer
from formulation.errors import InvalidBudget
from formulation.network import Array, Index

# (producer, consumer, cost): see `fold`.
CostTerm = tuple[str | None, str | None, "float | Array"]


@dataclass(frozen=True, eq=False)
class Costs:
    """The cost of a choice of widths n: constant + sum_k own_k[n_k] + sum_(p,c) pairs_pc[n_p, n_c].

    Attributes:
        constant: of what no choice changes.
        own: by layer, one number per allowed width.
        pairs: by (producer, consumer), one number per pair of allowed widths.
        products: the pairs whose table is rate * n_p * n_c, with that rate.
    """

    constant: float
    own: Mapping[str, Array]
    pairs: Mapping[tuple[str, str], Array]
    products: Mapping[tuple[str, str], float] = field(default_factory=dict)

    @property
    def least(self) -> float:
        """A cost that no choice goes below: the sum of the smallest entry of each table."""
        tables = [*self.own.values(), *self.pairs.values()]
        return self.constant + sum(float(table.min()) for table in tables)

    def of(self, where: Mapping[str, int]) -> float:
        """The cost of the choice at these positions among each layer's allowed widths."""
        own = sum(float(cost[where[layer]]) for layer, cost in self.own.items())
        return self.constant + own + sum(float(table[where[p], where[c]]) for (p, c), table in self.pairs.items())

    def step(self, where: Mapping[str, int], layer: str) -> float:
        """What the next allowed width of one layer costs more."""
        at = where[layer]
        more = float(self.own[layer][at + 1] - self.own[layer][at])
        for (producer, consumer), table in self.pairs.items():
            if producer == layer:
                more += float(table[at + 1, where[consumer]] - table[at, where[consumer]])
            elif consumer == layer:
                more += float(table[where[producer], at + 1] - table[where[producer], at])
        return more


def fold(
    costs: Iterable[CostTerm], layers: Mapping[str, Choices], grids: Mapping[str, Sequence[int]] | None = None
) -> Costs:
    """All costs over the allowed widths of the layers.

    A cost is (producer, consumer, number): number * kept units of the producer * kept units of the consumer, where
    None stands for 1; or (producer, consumer, table): table[a, b] where the producer keeps `grids[producer][a]` and
    the consumer `grids[consumer][b]` units, with one row or column for None.

    A layer that reads units of its own group, as in x + f(x), is its own producer: its cost is that of one width.

    Raises InvalidBudget for an unknown layer, a table of another shape or without grids, or a cost that is not finite.
    """
    constant = 0.0
    own = {layer: np.zeros(len(each.widths)) for layer, each in layers.items()}
    pairs: dict[tuple[str, str], Array] = {}
    rates: dict[tuple[str, str], float] = {}
    tabled = set()
    for producer, consumer, given in costs:
        table = _table(producer, consumer, given, layers, {} if grids is None else grids)
        if producer is None and consumer is None:
            constant += float(table[0, 0])
        elif producer is None or consumer is None:
            own[producer or consumer or ""] += table.ravel()
        elif producer == consumer:
            own[producer] += table.diagonal()
        else:
            pair = producer, consumer
            pairs[pair] = pairs.get(pair, np.zeros(table.shape)) + table
            if np.ndim(given):
                tabled.add(pair)
            else:
                rates[pair] = rates.get(pair, 0.0) + float(given)
    return Costs(constant, own, pairs, {pair: rate for pair, rate in rates.items() if pair not in tabled})


def _table(
    producer: str | None,
    consumer: str | None,
    given: float | Array,
    layers: Mapping[str, Choices],
    grids: Mapping[str, Sequence[int]],
) -> Array:
    """One number per pair of allowed widths; None has one row or column."""
    where = f"the cost of '{producer}' feeding '{consumer}'"
    for layer in (producer, consumer):
        if layer is not None:
            require_layer(layer, layers)
    values = np.asarray(given, dtype=float)
    if not np.isfinite(values).all():
        raise InvalidBudget(f"{where} is not finite; measure or count it again")
    if values.ndim == 0:
        made: Array = values * np.outer(*(_widths(layer, layers) for layer in (producer, consumer)))
        return made
    missing = [layer for layer in (producer, consumer) if layer is not None and layer not in grids]
    if missing:
        raise InvalidBudget(f"{where} is a table, but widths has no grid of '{missing[0]}'; give the widths measured")
    shape = tuple(1 if layer is None else len(grids[layer]) for layer in (producer, consumer))
    if values.shape != shape:
        raise InvalidBudget(f"{where} is a table of shape {values.shape}, its widths ask for {shape}")
    rows, columns = (
        np.zeros(1, dtype=int) if layer is None else np.searchsorted(grids[layer], layers[layer].widths)
        for layer in (producer, consumer)
    )
    allowed: Array = values[np.ix_(rows, columns)]
    return allowed


def _widths(layer: str | None, layers: Mapping[str, Choices]) -> Index:
    return np.ones(1, dtype=np.int64) if layer is None else layers[layer].widths
