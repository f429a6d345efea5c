"""Scores of several scoring sets as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from formulation.errors import InvalidSolution
from formulation.network import Scores


def mean_scores(sets: Sequence[Scores]) -> Scores:
    """The mean score of every unit over scoring sets; raises InvalidSolution where their layers or widths differ."""
    if not sets:
        raise InvalidSolution("no scores to average; score at least one set")
    shapes = [{name: np.shape(values) for name, values in scores.items()} for scores in sets]
    if any(shape != shapes[0] for shape in shapes):
        raise InvalidSolution("the scoring sets were scored on different networks: their layers or widths differ")
    return {name: np.mean([scores[name] for scores in sets], axis=0) for name in sets[0]}
