"""The sparsity term: how many units count as critical.

    t_k = sum_j (s_kj - 2) / N_k          one term per scored layer, over its units j

and the objective takes the sum of the n - 1 largest of the n terms (of one term where n = 1). With `total`, which is
not in the paper, N_k is the number of units of all layers and every term counts: a unit costs the same whatever its
layer, and scores of different layers can be compared. That sum is linear:

    sum of the m largest of t = min  m q + sum_k p_k   with  p_k >= t_k - q,  p_k >= 0,  q free

The optimum's value is unique, its scores need not be: that sum does not see the layer with the smallest term, and two
units that do the same may share a score in any way. Ties are broken by a *preference*, added to the objective with a
weight so small that it takes at most `PREFERENCE_SHARE` of the gap:

    sum over layers k and units j = 0, 1, ... of  (1 + LATER j / units_k) s_kj / units_k

so no score stays up that nothing asks for, and of two equal units the earlier one is kept.
"""

from __future__ import annotations

from typing import assert_never

import numpy as np

from formulation.network import Array, Layer, Network
from naming import LayerWeight

PREFERENCE_SHARE = 0.1
LATER = 1.0


def layer_weight(network: Network, layer: Layer, weight: LayerWeight) -> int:
    """N_k, what a layer's term is divided by.

    Args:
        network: of which all scored units count for `network` and `total`.
        layer: k.
        weight: `units` of the layer; `kernel`, units times kernel height times kernel width; else units of all layers.
    """
    match weight:
        case "units":
            return layer.units
        case "kernel":
            return layer.units * layer.kernel
        case "network" | "total":
            return sum(network.units.values())
        case _:
            assert_never(weight)


def counted(network: Network, weight: LayerWeight) -> int:
    """m, the number of largest layer terms that are summed.

    Args:
        network: of n scored layers.
        weight: all n with `total`, else n - 1, and 1 of one layer.
    """
    return len(network.layers) if weight == "total" else max(1, len(network.layers) - 1)


def terms(network: Network, scores: Array, weight: LayerWeight) -> Array:
    """t_k per layer for the vector of all scores."""
    where = network.score_slices
    return np.array([(scores[where[k.name]] - 2).sum() / layer_weight(network, k, weight) for k in network.layers])


def sparsity(network: Network, scores: Array, weight: LayerWeight) -> float:
    """The sum of the m largest layer terms t_k = sum_j (s_kj - 2) / N_k, by sorting.

    Args:
        network: of n scored layers.
        scores: [scores], the vector of all.
        weight: which N_k, and which m (`counted`).
    """
    return float(np.sort(terms(network, scores, weight))[::-1][: counted(network, weight)].sum())


def preference(network: Network, gap: float) -> Array:
    """The cost of each score besides, to break ties: in all at most PREFERENCE_SHARE of the gap.

    Args:
        network: whose units count by layer; later units of a layer cost a little more.
        gap: relative gap asked for.

    Returns:
        [scores], in units of the objective.
    """
    each = [(1 + LATER * np.arange(k.units) / k.units) / k.units for k in network.layers]
    costs = np.concatenate(each)
    made: Array = costs * (PREFERENCE_SHARE * gap / costs.sum())
    return made
