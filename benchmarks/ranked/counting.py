"""Ways of counting: how many units each layer loses at a level."""

from __future__ import annotations

import numpy as np

import formulation
import training
from benchmarks.ranked.cells import Bench
from training import Scores

GAP = 1e-3  # of the most valuable widths within the multiply-adds


def counts_at(bench: Bench, counting: str, level: float, scores: Scores) -> dict[str, int]:
    """How many units go of each layer.

    Args:
        bench: with the network.
        counting: one of COUNTINGS.
        level: share of units that goes, of multiply-adds with `multiply_adds`.
        scores: those that compare across layers.

    Raises:
        FormulationError: a level of multiply-adds that no widths meet.
    """
    match counting:
        case "uniform":
            return training.counts(training.by_share(scores, level).masks)
        case "own":
            return training.counts(training.by_quantile(scores, level).masks)
        case _:
            return training.counts(_within_multiply_adds(bench, scores, 1.0 - level))


def _within_multiply_adds(bench: Bench, scores: Scores, left: float) -> training.Masks:
    widths = bench.widths
    costs = training.counted_costs(bench.dense, bench.layers, widths, bench.images[:1], "multiply_adds")
    lowest = min(0.0, *(float(each.min()) for each in scores.values()))
    solution = formulation.keep_within(
        {layer: each - lowest for layer, each in scores.items()}, costs.costs, left, layer_weight="network", gap=GAP
    )
    return {layer: solution.masks.get(layer, np.ones(units, np.bool_)) for layer, units in widths.items()}
