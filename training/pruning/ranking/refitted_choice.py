"""Choice after refit: of several masks the one whose refitted network is best, then swaps and crossings of the best."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from training.errors import FitSettingsError, MaskError
from training.pruning.masks import Masks

STARTS = 3  # masks that swaps begin at
CROSSINGS = 12  # masks tried that take one layer from another mask


@dataclass(frozen=True, eq=False)
class RefittedChoice:
    """The masks that were best, how good, where they come from, and the value of every mask that was judged, by name.

    A name is that of a candidate, `<candidate>, swaps`, or `<layer> of <name> in <name>`.
    """

    masks: Masks
    value: float
    origin: str
    judged: dict[str, float]


def choose_refitted(
    candidates: Mapping[str, Masks],
    judge: Callable[[Masks], float],
    swap: Callable[[Masks], Masks] | None = None,
    *,
    starts: int = STARTS,
    crossings: int = CROSSINGS,
) -> RefittedChoice:
    """The best of some masks, once the survivors have taken over; ties go to what was tried first.

    Every candidate is judged; swaps begin at the best of them, and what they lead to is judged as well; then the best
    takes single layers from the others, the better ones first, where it gains by that. Equal masks are judged once.

    Args:
        candidates: masks by name, of the same layers and counts.
        judge: how good a network is without these units, higher is better: its accuracy after refit on images that
            neither fitted nor measure it.
        swap: a local search from given masks, such as `search_refitted_swaps`; None: none.
        starts: how many candidates the swaps begin at.
        crossings: how many masks that mix two others are tried.

    Raises:
        MaskError: no candidate, or candidates that keep different numbers of units.
        FitSettingsError: a number below 0.
    """
    _check(candidates, starts, crossings)
    trials = _Trials(judge)
    for name, masks in candidates.items():
        trials.add(name, masks)
    if swap is not None:
        for name, masks in trials.best_first()[:starts]:
            trials.add(f"{name}, swaps", swap(masks))
    for name, masks in _crossings(trials, crossings):
        trials.add(name, masks)
    name, masks = trials.best_first()[0]
    return RefittedChoice(masks, trials.values[name], name, trials.values)


class _Trials:
    """Masks by name, with their values; equal masks under one name."""

    def __init__(self, judge: Callable[[Masks], float]) -> None:
        self.judge = judge
        self.masks: dict[str, Masks] = {}
        self.values: dict[str, float] = {}
        self.known: set[bytes] = set()

    def add(self, name: str, masks: Masks) -> bool:
        """Judge masks that were not judged before; False where they were."""
        key = b"".join(np.packbits(mask).tobytes() for mask in masks.values())
        if key in self.known:
            return False
        self.known.add(key)
        self.masks[name], self.values[name] = masks, self.judge(masks)
        return True

    def best_first(self) -> list[tuple[str, Masks]]:
        order = sorted(self.masks, key=lambda name: -self.values[name])
        return [(name, self.masks[name]) for name in order]


def _crossings(trials: _Trials, most: int) -> Iterator[tuple[str, Masks]]:
    """The best masks so far with one layer of another, from the second best on; what is yielded is judged next."""
    others = trials.best_first()[1:]
    for name, other in others:
        for layer in other:
            best, masks = trials.best_first()[0]
            if most == 0:
                return
            if (other[layer] == masks[layer]).all():
                continue
            most -= 1
            yield f"{layer} of {name} in {best}", masks | {layer: other[layer]}


def _check(candidates: Mapping[str, Masks], starts: int, crossings: int) -> None:
    if not candidates:
        raise MaskError("there are no candidates: give the masks of one ranking or more")
    if starts < 0 or crossings < 0:
        raise FitSettingsError(f"starts={starts}, crossings={crossings}: use 0 or more")
    kept = {name: {layer: int(m.sum()) for layer, m in masks.items()} for name, masks in candidates.items()}
    first, *rest = kept
    for name in rest:
        if kept[name] != kept[first]:
            raise MaskError(f"{name!r} keeps {kept[name]} and {first!r} {kept[first]}: give masks of the same counts")
