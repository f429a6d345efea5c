"""Stored values of unstable activations: refused where they are of nothing, or lacking."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from formulation.errors import InvalidSolution
from formulation.network import Index, MaxPool, Network, Relu, Unstable
from formulation.score_settings import ScoreSettings
from naming import FIRST_ORDER


def require_nodes(network: Network, unstable: Mapping[str, Unstable], settings: ScoreSettings) -> None:
    """Raise InvalidSolution where values are stored for what is no unstable ReLU or max-pool."""
    phases = {node.name: 1 for node in network.nodes if isinstance(node.op, Relu)}
    phases |= {node.name: node.op.windows.shape[1] for node in network.nodes if isinstance(node.op, MaxPool)}
    for name, stored in unstable.items():
        if name not in phases or stored.phase.shape[1] != phases[name]:
            raise InvalidSolution(f"the solution has values for activations of '{name}' that do not exist; score again")
        if settings.gate in FIRST_ORDER:
            raise InvalidSolution(f"the solution has values of its own for '{name}', all of it stable; score again")


def stored_places(stored: Unstable, shape: tuple[int, ...]) -> tuple[Index, Index]:
    """Activation and image of each stored value; raises InvalidSolution where one lies outside `shape`."""
    j, i = stored.where.T
    if len(j) and not (min(j.min(), i.min()) >= 0 and j.max() < shape[0] and i.max() < shape[1]):
        raise InvalidSolution("the solution has values for activations that do not exist; score again")
    return j, i


def refuse_missing(missing: NDArray[np.bool_]) -> None:
    """Raise InvalidSolution where an unstable activation has no stored value."""
    if missing.any():
        raise InvalidSolution(
            f"the solution lacks the values of {int(missing.sum())} unstable activations; score again"
        )
