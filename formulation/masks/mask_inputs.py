"""Inputs of a mask program: settings, budget, network, images, labels and masks, read and refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from formulation.deadline import Deadline
from formulation.errors import InvalidImages, InvalidSetting, InvalidSolution
from formulation.masks.budgets import MaskBudget
from formulation.masks.mask_solution import MaskSettings
from formulation.network import Array, Index, Network
from formulation.scoring_data import read_scoring_data


def require_kinds(budget: Any, settings: Any) -> None:
    """Raise InvalidSetting for anything but a `MaskBudget` and `MaskSettings`."""
    if not isinstance(settings, MaskSettings):
        raise InvalidSetting(f"settings is {type(settings).__name__}; give MaskSettings(...)")
    if not isinstance(budget, MaskBudget):
        raise InvalidSetting(f"budget is {type(budget).__name__}; give MaskBudget(...)")


def read_classes(
    model: Any, images: Any, labels: Any, settings: MaskSettings, held: Sequence[str], deadline: Deadline
) -> tuple[Network, Array, Index]:
    """The network, pixels [inputs, n], and labels [n] that it has classes for.

    Args:
        model, images, labels, settings, held: as for `choose_mask`.
        deadline: by which the network must have been read.

    Raises:
        InvalidModel, InvalidImages, UnsupportedLayer, InvalidSetting, TimeLimitReached: as `read_scoring_data`.
    """
    labelled = settings.loss != "squared"
    network, pixels, classes = read_scoring_data(model, images, labels, held, deadline, labelled=labelled)
    if classes.min() < 0 or classes.max() >= network.classes:
        raise InvalidImages(
            f"labels run from {classes.min()} to {classes.max()}; the network has classes 0 to {network.classes - 1}"
        )
    return network, pixels, classes


def read_mask(network: Network, mask: Mapping[str, ArrayLike]) -> Array:
    """A mask as one vector of 0 and 1.

    Args:
        network: whose units it keeps.
        mask: by layer; layers that are not named are kept.

    Raises:
        InvalidSolution: no mapping, another layer, another number of units, or values that are neither 0 nor 1.
    """
    if not isinstance(mask, Mapping):
        raise InvalidSolution(f"the mask is {type(mask).__name__}; give one by layer, {{layer: [units]}}")
    given = {name: np.ones(units) for name, units in network.units.items()}
    for name, values in mask.items():
        array = np.asarray(values, dtype=float)
        if name not in given or array.shape != given[name].shape or not np.isin(array, (0.0, 1.0)).all():
            raise InvalidSolution(
                f"the mask of '{name}' is no mask of a scored layer with as many units; layers: {dict(network.units)}"
            )
        given[name] = array
    return network.stack(given)


def read_starts(network: Network, starts: Any) -> list[Array]:
    """Masks to begin a search with, each as `read_mask`.

    Args:
        network: whose units they keep.
        starts: masks by layer.

    Raises:
        InvalidSolution: no sequence of masks, or as `read_mask`.
    """
    if not isinstance(starts, Sequence) or isinstance(starts, str):
        raise InvalidSolution(f"starts is {type(starts).__name__}; give a list of masks, [{{layer: [units]}}, ...]")
    return [read_mask(network, each) for each in starts]
