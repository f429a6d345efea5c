"""From scores to masks: which units go, how many that makes, and what the limits kept.

Every rule says how many units of each layer stay; those are the ones with the highest scores, ties by position: of
units with the same score the earlier ones stay. The limits then keep more, and the selection says how many.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.errors import SelectionError
from training.pruning.limits import Limits, per_layer, unknown_layer
from training.pruning.masks import Masks

Scores = dict[str, NDArray[np.float64]]
NO_LIMITS = Limits()
# A share of units that is a whole number but for rounding (0.29 * 100) counts as that number; a layer of equal scores
# lies at its own mean.
ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Selection:
    """Masks, and per layer how many units stay only because of a limit (layers with none are absent).

    Attributes:
        kept_by_floor: the rule alone would have kept fewer than the floor.
        kept_by_rounding: of those above the floor, kept so that the width is a multiple of `round_to`.
        kept_by_protection: the rule would have removed them from a layer that is left alone.
    """

    masks: Masks
    kept_by_floor: dict[str, int]
    kept_by_rounding: dict[str, int] = field(default_factory=dict)
    kept_by_protection: dict[str, int] = field(default_factory=dict)


def by_threshold(scores: Mapping[str, NDArray[np.float64]], threshold: float, limits: Limits = NO_LIMITS) -> Selection:
    """Keep unit j of layer k where s_kj >= threshold.

    Args:
        scores: by layer, one per unit.
        threshold: in [0, 1].
        limits: what each layer keeps at least, and layers left alone.

    Raises:
        SelectionError: the threshold is outside [0, 1], a score is not finite, or the limits do not fit.
    """
    if not 0.0 <= threshold <= 1.0:
        raise SelectionError(f"threshold={threshold} is out of range: use a value in [0, 1]")
    check_scores(scores)
    return _select(scores, {layer: int((values >= threshold).sum()) for layer, values in scores.items()}, limits)


def by_layer_mean(
    scores: Mapping[str, NDArray[np.float64]], factor: float = 1.0, limits: Limits = NO_LIMITS
) -> Selection:
    """Keep unit j of layer k where s_kj >= factor * mean_j s_kj.

    Args:
        scores: by layer, one per unit.
        factor: of the layer's mean score.
        limits: what each layer keeps at least, and layers left alone.

    Raises:
        SelectionError: the factor is negative or not finite, a score is not finite, or the limits do not fit.
    """
    if not 0.0 <= factor < math.inf:
        raise SelectionError(f"factor={factor} is out of range: use a finite value of 0 or more")
    check_scores(scores)
    kept = {}
    for layer, values in scores.items():
        least = factor * values.mean()
        kept[layer] = int((values >= least - ROUNDING * abs(least)).sum())
    return _select(scores, kept, limits)


def by_count(
    scores: Mapping[str, NDArray[np.float64]], kept: int | Mapping[str, int], limits: Limits = NO_LIMITS
) -> Selection:
    """Keep a number of units of each layer, those of the highest scores.

    Args:
        scores: by layer, one per unit.
        kept: units to keep of every layer, or by layer (name or pattern); others keep all.
        limits: what each layer keeps at least, and layers left alone.

    Raises:
        SelectionError: a count is below 0 or above the layer's width, a name is unknown, a score is not finite, or the
            limits do not fit.
    """
    check_scores(scores)
    wanted = {layer: len(values) for layer, values in scores.items()}
    for layer, count in per_layer(kept, scores).items():
        if not 0 <= count <= wanted[layer]:
            units = wanted[layer]
            raise SelectionError(f"{count} units to keep of layer {layer!r}, which has {units}: use 0 to {units}")
        wanted[layer] = count
    return _select(scores, wanted, limits)


def by_share(
    scores: Mapping[str, NDArray[np.float64]], share: float | Mapping[str, float], limits: Limits = NO_LIMITS
) -> Selection:
    """Remove a share of each layer's units, rounded down, those of the lowest scores.

    Args:
        scores: by layer, one per unit.
        share: of every layer, or by layer (name or pattern); others keep all.
        limits: what each layer keeps at least, and layers left alone.

    Raises:
        SelectionError: a share is outside [0, 1), a name is unknown, a score is not finite, or the limits do not fit.
    """
    check_scores(scores)
    shares = per_layer(share, scores)
    for layer, value in shares.items():
        _check_share(value, f" of layer {layer!r}" if isinstance(share, Mapping) else "")
    widths = {layer: len(values) for layer, values in scores.items()}
    kept = {layer: units - _part(shares.get(layer, 0.0), units) for layer, units in widths.items()}
    return _select(scores, kept, limits)


def by_quantile(scores: Mapping[str, NDArray[np.float64]], share: float, limits: Limits = NO_LIMITS) -> Selection:
    """Remove a share of all units together, the lowest scored of any layer; ties by position.

    Args:
        scores: by layer, one per unit.
        share: of the units of the layers that are not left alone, rounded down.
        limits: what each layer keeps at least, and layers left alone; what the limits keep is not made up for in
            another layer.

    Raises:
        SelectionError: the share is outside [0, 1), a score is not finite, or the limits do not fit.
    """
    check_scores(scores)
    _check_share(share, "")
    alone = limits.left_alone(scores)
    free = [layer for layer in scores if layer not in alone]
    kept = {layer: len(values) for layer, values in scores.items()}
    if free:
        pooled = np.concatenate([scores[layer] for layer in free])
        home = np.repeat(np.arange(len(free)), [kept[layer] for layer in free])
        stay = rank(pooled)[: len(pooled) - _part(share, len(pooled))]
        kept |= dict(zip(free, np.bincount(home[stay], minlength=len(free)).tolist(), strict=True))
    return _select(scores, kept, limits)


def by_counts(scores: Mapping[str, NDArray[np.float64]], removed: Mapping[str, int]) -> Masks:
    """Masks that remove exactly so many units of each layer named, those with the lowest scores, ties by position.

    Args:
        scores: by layer, one per unit.
        removed: by layer, how many go; what `counts` returns of other masks.

    Raises:
        SelectionError: a layer has no scores, a score is not finite, or a count is below 0 or would empty the layer.
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


def check_scores(scores: Mapping[str, NDArray[np.float64]]) -> None:
    """Raise SelectionError where a layer has no scores or a score is NaN or infinite."""
    for layer, values in scores.items():
        if values.ndim != 1 or not len(values):
            raise SelectionError(f"scores of {layer!r} have shape {values.shape}: one score per unit is needed")
        for unit, value in enumerate(values):
            if not math.isfinite(value):
                raise SelectionError(f"score of unit {unit} of {layer!r} is {value}: scores must be finite")


def _select(scores: Mapping[str, NDArray[np.float64]], wanted: Mapping[str, int], limits: Limits) -> Selection:
    """The highest units of each layer, as many as wanted and as the limits ask for besides."""
    widths = {layer: len(values) for layer, values in scores.items()}
    floors = limits.floors(widths)
    masks: Masks = {}
    found: tuple[dict[str, int], ...] = ({}, {}, {})
    by_floor, by_rounding, by_protection = found
    for layer, units in widths.items():
        kept = wanted[layer]
        if layer not in floors:
            by_protection[layer], final = units - kept, units
        else:
            above = max(kept, floors[layer])
            final = limits.widened(above, units)
            by_floor[layer], by_rounding[layer] = above - kept, final - above
        masks[layer] = top(scores[layer], final)
    return Selection(masks, *({layer: more for layer, more in by.items() if more} for by in found))


def _check_share(share: float, where: str) -> None:
    if not 0.0 <= share < 1.0:
        raise SelectionError(f"share={share}{where} is out of range: use a value of 0 or more and below 1")


def _part(share: float, units: int) -> int:
    return math.floor(share * units + ROUNDING)
