"""A total order for units whose scores tie: the score, and at its bounds its reduced cost."""

from __future__ import annotations

import numpy as np

from formulation.errors import InvalidSolution
from formulation.network import Array, Scores
from formulation.solution import Solution

# Of a reduced cost measured in what a unit's score costs in the objective.
PRICE_SHARE = 0.1


def importance(solution: Solution) -> Scores:
    """How much each unit matters, for ranking: its score, and between units that tie at 0 or 1 its reduced cost.

        importance_j = s_j + PRICE_SHARE max(0, - d_j N_k)     where s_j = 1
        importance_j = s_j - PRICE_SHARE max(0, d_j N_k)       where s_j = 0
        importance_j = s_j                                     elsewhere

    with d_j the reduced cost of the score and 1 / N_k what a unit's score costs in its layer's term (N_k counts units
    here where `layer_weight` is `kernel`): at 1, by how many times its own cost a unit is worth more than it costs. The
    order of the scores never changes. Values may leave [0, 1]: a threshold belongs to scores.

    Returns:
        One float per unit by layer; the scores themselves where nothing was proved.

    Raises:
        InvalidSolution: the reduced costs are not those of the scores' units.
    """
    if not solution.reduced_costs:
        return {name: values.copy() for name, values in solution.scores.items()}
    units = {name: len(values) for name, values in solution.scores.items()}
    if {name: len(values) for name, values in solution.reduced_costs.items()} != units:
        raise InvalidSolution("the solution's reduced costs are not one per score; score again")
    together = solution.certificate.settings["layer_weight"] in ("network", "total")
    charged = {name: sum(units.values()) if together else count for name, count in units.items()}
    return {
        name: _priced(values, solution.reduced_costs[name], charged[name]) for name, values in solution.scores.items()
    }


def _priced(scores: Array, costs: Array, charged: int) -> Array:
    worth = (
        PRICE_SHARE
        * charged
        * np.select([scores >= 1.0, scores <= 0.0], [np.maximum(-costs, 0), np.minimum(-costs, 0)])
    )
    made: Array = scores + worth
    return made
