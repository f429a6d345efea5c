"""The budget program: a small integer program over how many units each layer keeps.

A layer keeps its units with the highest scores, so only the widths n_k are to be chosen. With the binary z_kn for
"layer k keeps n units", V_kn the worth of the n highest (see `keep_within`) and c the cost,

    maximise    sum_k sum_n V_kn z_kn
    subject to  sum_n z_kn = 1                                      for each layer k
                constant + sum_k sum_n c_kn z_kn + sum over pairs (p, c) of their cost <= budget

A pair of layers that feed each other costs a product of widths, or what a table says. Two exact linear forms, with m a
width of the producer p and n one of the consumer c:

    carried:    the cost is rate * sum_n n f_n, where f_n = z_cn * n_p through
                sum_n f_n = sum_m m z_pm
                least_p z_cn <= f_n <= most_p z_cn                  (least_p, most_p: the smallest and largest m)
    paired:     the cost is sum_mn T_mn w_mn, where w_mn = z_pm z_cn through
                sum_n w_mn = z_pm,  sum_m w_mn = z_cn,  w >= 0

`carried` has one variable per width of the consumer, and its relaxation gets weaker with every pair; `paired` has one
per pair of widths, and its relaxation is that of a path through the layers with one side constraint, which is tight.
On chains with up to SHORT products `carried` took HiGHS about a tenth of the CPU time or less; with 12 of them (VGG-16
in steps of 8 units) `paired` was solved in seconds and `carried` was not within two minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from formulation.budget.cost_terms import Costs
from formulation.budget.layer_widths import Choices
from formulation.deadline import NEVER, Deadline
from formulation.errors import TimeLimitReached
from formulation.network import Array
from formulation.solve import Program, labelled_array, new_model, total_of

if TYPE_CHECKING:
    from linopy import LinearExpression, Model, Variable
    from xarray import DataArray

SHORT = 3
CELLS = 500_000  # pairs of widths above which `paired` would not fit a small machine


def build_budget_program(
    layers: Mapping[str, Choices], costs: Costs, budget: float | None, deadline: Deadline = NEVER
) -> Program:
    """The program of the module's docstring, as a minimisation of minus the value; without a budget, of the cost.

    Raises TimeLimitReached where the deadline comes before all pairs of layers are in it.

    The value is in parts of `worth`, the cost in parts of that of keeping everything: a solver's tolerances are
    absolute, and so mean the same in every unit. The constant cost is left out.

    Columns: `keep_<layer>` (z), `carried_<producer>_<consumer>` (f) or `paired_<producer>_<consumer>` (w), over
    dimensions that bear the layers' names, with the widths as coordinates.
    """
    model = new_model()
    keep = {
        layer: model.add_variables(coords=[(layer, own.widths)], binary=True, name=f"keep_{layer}")
        for layer, own in layers.items()
    }
    for layer, z in keep.items():
        model.add_constraints(z.sum() == 1, name=f"one_{layer}")
    scale = max(abs(costs.of({layer: len(own.widths) - 1 for layer, own in layers.items()}) - costs.constant), 1e-300)
    parts = [(_over(own / scale, keep[layer]) * keep[layer]).sum() for layer, own in costs.own.items() if own.any()]
    short = len(costs.pairs) <= SHORT
    for (producer, consumer), table in costs.pairs.items():
        if not deadline.leaves(0.0):
            raise TimeLimitReached(
                f"the time limit of {deadline.limit:g} s passed before the program was written; raise time_limit, or "
                "allow fewer widths by round_to or widths"
            )
        rate = costs.products.get((producer, consumer))
        z = keep[producer], keep[consumer]
        if rate is not None and (short or table.size > CELLS):
            parts.append(add_carried(model, f"{producer}_{consumer}", *z, rate / scale))
        else:
            parts.append(add_paired(model, f"{producer}_{consumer}", *z, table / scale))
    total = total_of(parts) if parts else None
    if budget is None:
        objective = total if total is not None else 0 * keep[next(iter(keep))].sum()
    else:
        whole = worth(layers)
        objective = total_of(
            [(_over(-own.value / whole, keep[layer]) * keep[layer]).sum() for layer, own in layers.items()]
        )
        if total is not None:
            model.add_constraints(total <= (budget - costs.constant) / scale, name="budget")
    model.add_objective(objective, sense="min")
    return Program(model, np.concatenate([z.labels.values for z in keep.values()]), 0.0)


def worth(layers: Mapping[str, Choices]) -> float:
    """The unit of the program's value: the largest that a width has, of either sign; 1 where all are 0."""
    return max(float(np.abs(own.value).max()) for own in layers.values()) or 1.0


def add_carried(model: Model, name: str, producer: Variable, consumer: Variable, rate: float) -> LinearExpression:
    """Add f over the consumer's widths and return rate * sum_n n f_n.

    sum_n f_n = sum_m m z_pm                            `carried_<name>`
    f_n >= least_p z_cn                                 `least_<name>`
    f_n <= most_p z_cn                                  `most_<name>`
    """
    (dim_p,), (dim_c,) = producer.dims, consumer.dims
    m, n = producer.coords[dim_p].astype(float), consumer.coords[dim_c].astype(float)
    f = model.add_variables(lower=0.0, coords=[consumer.indexes[dim_c]], name=f"carried_{name}")
    model.add_constraints(f.sum() - (m * producer).sum() == 0, name=f"carried_{name}")
    model.add_constraints(f - float(m.min()) * consumer >= 0, name=f"least_{name}")
    model.add_constraints(f - float(m.max()) * consumer <= 0, name=f"most_{name}")
    return (rate * n * f).sum()


def add_paired(model: Model, name: str, producer: Variable, consumer: Variable, table: Array) -> LinearExpression:
    """Add w over pairs of widths and return sum_mn T_mn w_mn.

    sum_n w_mn = z_pm                                   `producer_<name>`
    sum_m w_mn = z_cn                                   `consumer_<name>`
    """
    (dim_p,), (dim_c,) = producer.dims, consumer.dims
    coords = [producer.indexes[dim_p], consumer.indexes[dim_c]]
    w = model.add_variables(lower=0.0, coords=coords, name=f"paired_{name}")
    model.add_constraints(w.sum(dim_c) - producer == 0, name=f"producer_{name}")
    model.add_constraints(w.sum(dim_p) - consumer == 0, name=f"consumer_{name}")
    return (labelled_array(table, coords, [dim_p, dim_c]) * w).sum()


def _over(values: Array, variable: Variable) -> DataArray:
    return labelled_array(values, variable.coords)
