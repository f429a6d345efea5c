"""From scores to masks: which units go, and how many that makes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.errors import SelectionError
from training.pruning.masks import Masks

Scores = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Selection:
    """Masks, and per layer how many units stay only because a layer is never emptied (layers with none are absent)."""

    masks: Masks
    kept_by_floor: dict[str, int]


def by_threshold(scores: Mapping[str, NDArray[np.float64]], threshold: float, *, floor: int = 1) -> Selection:
    """Keep unit j of layer k where s_kj >= threshold, and at least the `floor` highest of every layer.

    Ties at the floor go to the unit of the lowest index. A layer of fewer than `floor` units keeps them all.
    Raises SelectionError where the threshold is outside [0, 1], the floor is below 1, or a score is not finite.
    """
    if not 0.0 <= threshold <= 1.0:
        raise SelectionError(f"threshold={threshold} is out of range: use a value in [0, 1]")
    if floor < 1:
        raise SelectionError(f"floor={floor} is out of range: use 1 or more, a layer is never emptied")
    check_scores(scores)
    masks: Masks = {}
    kept_by_floor = {}
    for layer, values in scores.items():
        above = values >= threshold
        kept = above.copy()
        kept[rank(values)[:floor]] = True
        masks[layer] = kept
        if rescued := int((kept & ~above).sum()):
            kept_by_floor[layer] = rescued
    return Selection(masks, kept_by_floor)


def counts(masks: Mapping[str, NDArray[np.bool_]]) -> dict[str, int]:
    """How many units each layer loses."""
    return {layer: int((~mask).sum()) for layer, mask in masks.items()}


def rank(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Positions from the highest score to the lowest, ties by position."""
    return np.argsort(-values, kind="stable")


def check_scores(scores: Mapping[str, NDArray[np.float64]]) -> None:
    """Raise SelectionError where a layer has no scores or a score is NaN or infinite."""
    for layer, values in scores.items():
        if values.ndim != 1 or not len(values):
            raise SelectionError(f"scores of {layer!r} have shape {values.shape}: one score per unit is needed")
        for unit, value in enumerate(values):
            if not math.isfinite(value):
                raise SelectionError(f"score of unit {unit} of {layer!r} is {value}: scores must be finite")
