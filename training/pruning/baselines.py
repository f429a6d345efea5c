"""Controls that remove exactly as many units per layer as the masks they are compared with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from training.errors import MaskError, SelectionError
from training.pruning.masks import Masks
from training.pruning.selection import check_scores, counts, rank


def random_masks(masks: Mapping[str, NDArray[np.bool_]], *, seed: int, draws: int = 5) -> list[Masks]:
    """`draws` masks that remove units chosen uniformly without replacement, as many per layer as `masks` does.

    Raises SelectionError where `draws` is below 1 or the seed is negative.
    """
    if draws < 1 or seed < 0:
        raise SelectionError(f"draws={draws}, seed={seed}: use 1 or more draws and a seed of 0 or more")
    removed = counts(masks)
    drawn = []
    for number in range(draws):
        # A generator per draw, so that draw 3 is the same whether five or ten are asked for.
        rng = np.random.default_rng([seed, number])
        drawn.append(
            {
                layer: _without(len(mask), rng.choice(len(mask), size=removed[layer], replace=False))
                for layer, mask in masks.items()
            }
        )
    return drawn


def critical_masks(scores: Mapping[str, NDArray[np.float64]], masks: Mapping[str, NDArray[np.bool_]]) -> Masks:
    """Masks that remove the *highest* scored units, as many per layer as `masks` does; ties by position.

    Raises MaskError where scores and masks differ in layers or units, SelectionError where a score is not finite.
    """
    check_scores(scores)
    for layer, mask in masks.items():
        if layer not in scores or scores[layer].shape != mask.shape:
            found = scores[layer].shape if layer in scores else "none"
            raise MaskError(f"mask for {layer!r} has {len(mask)} units but its scores are {found}: they must agree")
    removed = counts(masks)
    return {layer: _without(len(mask), rank(scores[layer])[: removed[layer]]) for layer, mask in masks.items()}


def _without(units: int, removed: NDArray[np.intp]) -> NDArray[np.bool_]:
    mask = np.ones(units, dtype=np.bool_)
    mask[removed] = False
    return mask
