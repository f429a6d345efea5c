"""The forms of a mask solution: its certificate, settings and masks, refused by name where they are damaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from formulation.errors import InvalidSetting, InvalidSolution
from formulation.masks.mask_solution import MaskCertificate, MaskSettings, MaskSolution
from formulation.network import Array, Network


def require_solution(solution: Any) -> None:
    """Raise for anything but a `MaskSolution` with a certificate of its form.

    Args:
        solution: whatever was given.

    Raises:
        InvalidSolution: it is none.
    """
    if not isinstance(solution, MaskSolution) or not isinstance(solution.certificate, MaskCertificate):
        raise InvalidSolution(
            f"the solution is {type(solution).__name__}; give what `choose_mask` or `MaskSolution.load` returns"
        )
    claimed = solution.certificate
    damaged = [
        *(name for name in ("objective", "bound", "gap", "unchanged_loss") if not _number(getattr(claimed, name))),
        *(name for name in ("units", "objectives") if not _numbers_by_name(getattr(claimed, name))),
    ]
    if damaged:
        raise InvalidSolution(f"the {damaged[0]} in the certificate is damaged (no number); choose the masks again")


def _number(value: Any) -> bool:
    return isinstance(value, (int, float))


def _numbers_by_name(values: Any) -> bool:
    return isinstance(values, Mapping) and all(isinstance(n, str) and _number(v) for n, v in values.items())


def proved_settings(solution: MaskSolution) -> MaskSettings:
    """The settings that a certificate is about.

    Args:
        solution: of which the certificate is read.

    Raises:
        InvalidSolution: they are damaged.
    """
    try:
        return MaskSettings.from_dict(solution.certificate.settings)
    except (InvalidSetting, KeyError, TypeError, ValueError) as error:
        raise InvalidSolution(
            f"the settings in the certificate are damaged ({error}); choose the masks again"
        ) from error


def stacked(network: Network, masks: Any) -> Array:
    """Masks of every layer as one vector, [units].

    Args:
        network: whose units they keep.
        masks: by layer.

    Raises:
        InvalidSolution: other layers, other numbers of units, or values that are neither 0 nor 1.
    """
    shapes = {name: np.shape(mask) for name, mask in masks.items()}
    if shapes != {name: (units,) for name, units in network.units.items()}:
        raise InvalidSolution(f"the masks have shapes {shapes}, the network has {dict(network.units)} units")
    for name, mask in masks.items():
        if not np.isin(mask, (0, 1)).all():
            raise InvalidSolution(f"the mask of '{name}' has values that are neither 0 nor 1; choose the masks again")
    return network.stack({name: np.asarray(mask, dtype=float) for name, mask in masks.items()})
