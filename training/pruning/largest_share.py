"""The largest share of units that may go: a grid of shares, then bisection, judged by whatever a pruned network is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from training.pruning.masks import Masks
from training.pruning.selection import Selection

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
