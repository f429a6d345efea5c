"""Scores of several scoring sets, or of several blocks of a network, as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from formulation.errors import InvalidSolution
from formulation.network import Scores


def mean_scores(sets: Sequence[Scores]) -> Scores:
    """The mean score of every unit over scoring sets: s_kj = mean over the sets of s_kj.

    Returns:
        By layer, one score in [0, 1] per unit.

    Raises:
        InvalidSolution: there are no scores, or their layers or widths differ.
    """
    if not sets:
        raise InvalidSolution("no scores to average; score at least one set")
    shapes = [{name: np.shape(values) for name, values in scores.items()} for scores in sets]
    if any(shape != shapes[0] for shape in shapes):
        raise InvalidSolution("the scoring sets were scored on different networks: their layers or widths differ")
    return {name: np.mean([scores[name] for scores in sets], axis=0) for name in sets[0]}


def merged_scores(blocks: Sequence[Scores]) -> Scores:
    """The scores of a network from those of its blocks, layers in the order of the blocks.

    Raises:
        InvalidSolution: two blocks score the same layer, or there are no scores.
    """
    if not blocks:
        raise InvalidSolution("no scores to merge; score at least one block")
    merged: Scores = {}
    for scores in blocks:
        if twice := next((name for name in scores if name in merged), None):
            raise InvalidSolution(f"layer {twice!r} is scored by two blocks; a layer belongs to one block alone")
        merged |= scores
    return merged
