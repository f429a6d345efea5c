"""From scores to masks: which units go, and how many that makes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

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


def by_counts(scores: Mapping[str, NDArray[np.float64]], removed: Mapping[str, int]) -> Masks:
    """Masks that remove exactly so many units of each layer named, those with the lowest scores, ties by position.

    Of units with the same score the later ones go first. `removed` is what `counts` returns of other masks.
    Raises SelectionError where a layer has no scores, a score is not finite, or a count is below 0 or would empty the
    layer.
    """
    check_scores(scores)
    masks: Masks = {}
    for layer, count in removed.items():
        if layer not in scores:
            raise unknown_layer(layer, scores)
        units = len(scores[layer])
        if not 0 <= count < units:
            raise SelectionError(f"{count} units to remove of {layer!r}, which has {units}: use 0 to {units - 1}")
        masks[layer] = top(scores[layer], units - count)
    return masks


def counts(masks: Mapping[str, NDArray[np.bool_]]) -> dict[str, int]:
    """How many units each layer loses."""
    return {layer: int((~mask).sum()) for layer, mask in masks.items()}


def rank(values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Positions from the highest score to the lowest, ties by position."""
    return np.argsort(-values, kind="stable")


def top(values: NDArray[np.float64], kept: int) -> NDArray[np.bool_]:
    """The mask that keeps so many units, those with the highest scores, ties by position."""
    mask = np.zeros(len(values), dtype=np.bool_)
    mask[rank(values)[:kept]] = True
    return mask


def unknown_layer(layer: str, known: Iterable[str]) -> SelectionError:
    """The error for a layer that is not among those known; it names the nearest."""
    names = list(known)
    near = get_close_matches(layer, names, 3)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"use {', '.join(map(repr, names))}"
    return SelectionError(f"layer {layer!r} has no scores: {hint}")


def check_scores(scores: Mapping[str, NDArray[np.float64]]) -> None:
    """Raise SelectionError where a layer has no scores or a score is NaN or infinite."""
    for layer, values in scores.items():
        if values.ndim != 1 or not len(values):
            raise SelectionError(f"scores of {layer!r} have shape {values.shape}: one score per unit is needed")
        for unit, value in enumerate(values):
            if not math.isfinite(value):
                raise SelectionError(f"score of unit {unit} of {layer!r} is {value}: scores must be finite")
