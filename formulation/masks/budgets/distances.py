"""Distances between masks: in how many units two differ, and swaps that take a mask farther from others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from formulation.errors import InvalidBudget
from formulation.masks.budgets.mask_budget import Distance
from formulation.network import Array, Network


def reference(network: Network, away: Distance) -> Array:
    """The mask that others keep away from, [units].

    Args:
        network: whose units it keeps.
        away: the mask, of every scored layer.

    Raises:
        InvalidBudget: another layer, or another number of units.
    """
    found = {name: len(kept) for name, kept in away.kept.items()}
    if found != dict(network.units):
        raise InvalidBudget(f"a mask to keep away from has {found} units, the scored layers {dict(network.units)}")
    return network.stack({name: np.asarray(kept, dtype=float) for name, kept in away.kept.items()})


def missing(network: Network, distances: Sequence[Distance], chosen: Array) -> Array:
    """By how many units a mask is too near each of the others, [distances]; 0 where it is far enough.

    Args:
        network: whose units are chosen.
        distances: the others.
        chosen: the mask, [units].
    """
    return np.array([max(0, away.units - round(float(np.abs(chosen - reference(network, away)).sum())))
                     for away in distances], dtype=np.int64)  # fmt: skip


def moves(network: Network, distances: Sequence[Distance], chosen: Array) -> Array:
    """What each distance grows by where a unit changes sides, [distances, units]: 1 or -1.

    Args:
        network: whose units are chosen.
        distances: the others.
        chosen: the mask, [units].
    """
    signs = [1.0 - 2.0 * np.abs(chosen - reference(network, away)) for away in distances]
    return np.array(signs).reshape(len(distances), network.score_count)


def taken_away(network: Network, distances: Sequence[Distance], scores: Array, made: Array) -> Array | None:
    """A mask of the same widths that is far enough from all others, by the swaps that lose the least score.

    Args:
        network: whose units are chosen.
        distances: the others.
        scores: [units]; those of kept units are wanted high.
        made: the mask to begin with, [units].

    Returns:
        The mask, [units]; None where no swap brings it nearer to them all.
    """
    made = made.copy()
    others = [(reference(network, away), away.units) for away in distances]
    while lacking := int(missing(network, distances, made).sum()):
        signs = moves(network, distances, made)
        slack = np.array([units - np.abs(made - other).sum() for other, units in others])
        best: tuple[float, float] = (float(lacking), 0.0)
        swap: tuple[int, int] | None = None
        for where in network.score_slices.values():
            units = np.arange(where.start, where.stop)
            kept, gone = units[made[where] == 1], units[made[where] == 0]
            if not len(kept) or not len(gone):
                continue
            gained = signs[:, kept][:, :, None] + signs[:, gone][:, None, :]
            left = np.maximum(slack[:, None, None] - gained, 0.0).sum(axis=0)
            lost = scores[kept][:, None] - scores[gone][None, :]
            place = np.unravel_index(int(np.lexsort((lost.ravel(), left.ravel()))[0]), left.shape)
            value = (float(left[place]), float(lost[place]))
            if value[0] < lacking and (swap is None or value < best):
                best, swap = value, (int(kept[place[0]]), int(gone[place[1]]))
        if swap is None:
            return None
        made[list(swap)] = 0.0, 1.0
    return made
