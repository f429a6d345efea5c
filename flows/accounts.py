"""What kept units cost, in parts of the whole network's cost: the data of a budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from flows.errors import BudgetExceeded
from formulation import Cost
from training import Masks

ROUNDING = 1e-9  # of the budget: a cost summed in another order


@dataclass(frozen=True, eq=False)
class Account:
    """What kept units cost, in parts of the whole network's cost.

    Attributes:
        layers: those that may lose units.
        costs: (producer, consumer, cost) each, as `formulation.keep_within` takes them.
        widths: the widths that tables of costs were measured at, by layer; None where costs are counted.
        seconds: every measured entry, a table with one row each; empty where costs are counted.
    """

    layers: tuple[str, ...]
    costs: tuple[Cost, ...]
    widths: Mapping[str, list[int]] | None = None
    seconds: dict[str, list[object]] = field(default_factory=dict)

    def up_to(self, left: Masks) -> Account:
        """The account of the widths that can still be kept: no layer keeps more units than it has left."""
        kept = {layer: int(left[layer].sum()) for layer in self.layers}
        if self.widths is None:
            return replace(self, widths={layer: list(range(1, most + 1)) for layer, most in kept.items()})
        widths = {layer: [width for width in grid if width <= kept[layer]] for layer, grid in self.widths.items()}
        # A layer that is None in a table has one row or column there.
        ends = {layer: len(grid) for layer, grid in widths.items()}
        costs: list[Cost] = [
            (producer, consumer, np.asarray(cost)[: ends.get(producer or "", 1), : ends.get(consumer or "", 1)])
            for producer, consumer, cost in self.costs
        ]
        return replace(self, costs=tuple(costs), widths=widths)

    def cost_of(self, masks: Masks) -> float:
        """The part of the whole network's cost that remains under masks, whose widths are those of the tables."""
        kept = {layer: int(masks[layer].sum()) for layer in self.layers}
        return sum(self._entry(kept, *term) for term in self.costs)

    def require(self, masks: Masks, budget: float) -> None:
        """Raise BudgetExceeded where what remains under masks costs more than the budget."""
        cost = self.cost_of(masks)
        if cost > budget * (1.0 + ROUNDING):
            raise BudgetExceeded(
                f"what is left costs {cost:.6g} of the whole network, more than budget={budget:g}: prune again with "
                f"schedule=one_shot, or give a larger budget"
            )

    def _entry(self, kept: Mapping[str, int], producer: str | None, consumer: str | None, cost: object) -> float:
        values = np.asarray(cost, dtype=np.float64)
        if values.ndim == 0:
            return float(values) * kept.get(producer or "", 1) * kept.get(consumer or "", 1)
        assert self.widths is not None
        row, column = (0 if layer is None else self.widths[layer].index(kept[layer]) for layer in (producer, consumer))
        return float(values[row, column])
