"""The public verb for several masks: the best one, the best of those far from it, and so on, each with its bound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from formulation.errors import FormulationError, InvalidBudget
from formulation.masks.budgets import Distance, MaskBudget
from formulation.masks.mask_choice import MaskProgress, choose_mask
from formulation.masks.mask_solution import MaskSettings, MaskSolution
from formulation.scoring_data import in_memory


def choose_distinct_masks(
    model: Any,
    images: Any,
    labels: Any,
    budget: MaskBudget,
    settings: MaskSettings,
    *,
    number: int,
    distance: int,
    mask: Mapping[str, ArrayLike] | None = None,
    starts: Sequence[Mapping[str, ArrayLike]] = (),
    held: Sequence[str] = (),
    progress: MaskProgress | None = None,
) -> tuple[MaskSolution, ...]:
    """Several masks within a budget that differ from each other in many units, the best first.

    The k-th is the answer of the mask program with a row for each of the masks m before it,

        sum_{m_j = 1} (1 - s_j) + sum_{m_j = 0} s_j >= distance,

    and its certificate says that no mask within the budget and so far from those before has an objective below its
    bound. Up to the gaps, objectives grow with k.

    Args:
        model, images, labels, budget, settings, mask, starts, held, progress: as for `choose_mask`, for each mask; the
            time limit too. A loader is read once, and every mask is of the same images.
        number: of masks, at least 1.
        distance: in how many units any two differ, at least 1. Of equal widths, two differ in an even number.

    Returns:
        The solutions.

    Raises:
        InvalidBudget: `number` or `distance` out of range, or no mask is left at that distance; the message says how
            many there are.
        Everything that `choose_mask` raises. Whatever it is, its attribute `solutions` has the masks found before.
    """
    for name, value in (("number", number), ("distance", distance)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise InvalidBudget(f"{name}={value!r} is out of range; give a whole number of at least 1")
    images, labels = in_memory(images, labels, labelled=getattr(settings, "loss", "") != "squared")
    found: list[MaskSolution] = []
    while len(found) < number:
        away = (*budget.distances, *(_away(solution, int(distance)) for solution in found))
        try:
            found.append(
                choose_mask(
                    model,
                    images,
                    labels,
                    replace(budget, distances=away),
                    settings,
                    mask=mask,
                    starts=starts,
                    held=held,
                    progress=progress,
                )
            )
        except FormulationError as error:
            error.solutions = tuple(found)
            if not found or not isinstance(error, InvalidBudget):
                raise
            fewer = InvalidBudget(f"{len(found)} of {number} masks were found that differ in {distance} units: {error}")
            fewer.solutions = tuple(found)
            raise fewer from error
    return tuple(found)


def _away(solution: MaskSolution, distance: int) -> Distance:
    return Distance({name: tuple(map(bool, kept)) for name, kept in solution.masks.items()}, distance)
