"""The largest share of units that may go: a grid of shares, then bisection, judged by whatever a pruned network is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from training.pruning.limits import Limits
from training.pruning.masks import Masks
from training.pruning.selection import Scores, Selection

GRID = tuple(range(10, 100, 10))  # percentages, between which the bisection goes on


@dataclass(frozen=True, eq=False)
class SharePoint:
    """A share of units that was tried, what goes with it, and the accuracy without that."""

    share: float
    selection: Selection
    accuracy: float


def largest_share(
    select: Callable[[float], Selection], accuracy: Callable[[Masks], float], units: int, least: float
) -> tuple[SharePoint, tuple[SharePoint, ...]]:
    """The largest share of units found to cost no more accuracy than allowed, and every share that was tried.

    Two passes: the largest of 0, 10, ... 90 % that holds, then bisection between it and the next one, to the unit.
    Accuracy need not fall evenly with the share: what is found holds, and the next larger share tried did not. Where
    nothing tried holds, nothing goes.

    Args:
        select: what goes with a share of the units.
        accuracy: of the network without that; each share is asked once.
        units: how many there are.
        least: the accuracy that must stay.

    Returns:
        What was found, and all that were tried, in the order in which they were.
    """
    points: dict[int, SharePoint] = {}

    def at(count: int) -> SharePoint:
        if count not in points:
            selection = select(count / units)
            points[count] = SharePoint(count / units, selection, accuracy(selection.masks))
        return points[count]

    grid = [percentage * units // 100 for percentage in GRID]
    within = [count for count in grid if at(count).accuracy >= least]
    works = max(within, default=0)
    fails = min((count for count in grid if count > works), default=units)
    return at(bisect_last(lambda count: at(count).accuracy >= least, works, fails)), tuple(points.values())


@dataclass(frozen=True, eq=False)
class SmallestShare:
    """What the better of two searches came to.

    Attributes:
        point: what was found.
        points: all shares that this search tried.
        tried: how many shares both tried.
        apart: whether the layers that are summed keep all units.
    """

    point: SharePoint
    points: tuple[SharePoint, ...]
    tried: int
    apart: bool


def smallest_share(
    select: Callable[..., Selection],
    values: Scores,
    limits: Limits,
    summed: Sequence[str],
    accuracy: Callable[[Masks], float],
    least: float,
    size: Callable[[Masks], float],
) -> SmallestShare:
    """`largest_share` of all units, and again with some layers whole: whichever leaves the smaller network.

    Args:
        select: of values, a share of the units and `limits`, what goes: `by_share` or `by_quantile`.
        values: by layer, one per unit.
        limits: of both searches.
        summed: the layers that the second leaves whole, see `summed_layers`; none: there is no second.
        accuracy: of the network without what goes.
        least: the accuracy that must stay.
        size: of the network without what goes, such as its multiply-adds; of equals the first search counts.
    """
    widths = {layer: len(each) for layer, each in values.items()}
    found = []
    for own in [limits, replace(limits, leave_alone=(*limits.leave_alone, *summed))][: 2 if summed else 1]:
        units = sum(widths[layer] for layer in own.floors(widths))
        found.append(largest_share(partial(select, values, limits=own), accuracy, units, least))
    sizes = [size(point.selection.masks) for point, _ in found]
    best = sizes.index(min(sizes))
    return SmallestShare(*found[best], sum(len(points) for _, points in found), best == 1)


def shares_tried(units: int) -> int:
    """About how many networks `largest_share` tries: those of the grid, and of the bisection behind one of them."""
    return len(GRID) + math.ceil(math.log2(1 + units / len(GRID)))


def bisect_last(holds: Callable[[int], bool], works: int, fails: int) -> int:
    """The last number that holds before one that does not, between one that holds and one that does not.

    Args:
        holds: asked of the numbers between.
        works: the lower one, which holds.
        fails: the upper one, which does not.
    """
    while fails - works > 1:
        middle = (works + fails) // 2
        if holds(middle):
            works = middle
        else:
            fails = middle
    return works
