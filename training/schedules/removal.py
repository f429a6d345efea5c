"""Schedules of scoring, removal and training: once, in small steps, before training, during it.

A schedule is an iterator of Steps that does the work of a step when it is asked for it: between two of them one may
measure, save or stop. Scores and selection come from outside, as functions of the network as it is by then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor, nn

from training.data import Split
from training.errors import ScheduleError
from training.fitting import Epoch, FitSettings, fit
from training.pruning import Masks, Scores, counts
from training.pruning.ranking import SwapResult
from training.schedules.step import Method, Pruned, Rework, begin, remove, replace_network, rework

StepCallbacks = Sequence[Callable[[Epoch], None]]


@dataclass(frozen=True, eq=False)
class Step:
    """What a schedule did in one step, numbered from 1.

    Attributes:
        share: the share of units that is to be gone by now, in [0, 1).
        masks: what is left.
        network: the model without the removed units.
        scores: what the selection saw, removed units below all others; None where the step only trained.
        swapped: what swapping units did, None without.
        returned: per layer the units that were removed before this step and are back, by a swap; others never are.
        epochs: what was trained in this step, before its removal; numbered through all steps.
    """

    index: int
    share: float
    masks: Masks
    network: nn.Module
    scores: Scores | None = None
    swapped: SwapResult | None = None
    returned: dict[str, tuple[int, ...]] = field(default_factory=dict)
    epochs: tuple[Epoch, ...] = ()

    @property
    def removed_share(self) -> float:
        """The share of units that is gone: what whole units make of `share`."""
        return sum(counts(self.masks).values()) / sum(len(mask) for mask in self.masks.values())


def even_shares(target: float, steps: int) -> tuple[float, ...]:
    """Shares that rise evenly to the target: target * k / steps for k = 1 .. steps.

    Args:
        target: share of all units that is gone at the end.
        steps: removals.

    Raises:
        ScheduleError: the target is outside (0, 1), or there is no step.
    """
    if not 0.0 < target < 1.0 or steps < 1:
        raise ScheduleError(f"target={target}, steps={steps}: use a target above 0 and below 1, and 1 step or more")
    return tuple(target * number / steps for number in range(1, steps + 1))


def one_shot(
    model: nn.Module, method: Method, share: float, example_input: Tensor, *, masks: Masks | None = None
) -> Iterator[Step]:
    """Score once and remove the whole share at once: `iterative` with one step.

    Args:
        model, method, example_input, masks: as for `iterative`.
        share: of all units, in [0, 1).

    Returns:
        One step, computed when it is asked for.

    Raises:
        ScheduleError, MaskError, UnsupportedGraph, SelectionError: as `iterative`.
    """
    return iterative(model, method, (share,), example_input, masks=masks)


def iterative(
    model: nn.Module,
    method: Method,
    shares: Sequence[float],
    example_input: Tensor,
    *,
    masks: Masks | None = None,
    between: Rework | None = None,
) -> Iterator[Step]:
    """Score, remove a little, score the pruned network again.

    What is removed stays removed but for swaps, for which the weights of removed units are kept as they were when they
    went. The network of the last step is not trained after its removal.

    Args:
        model: left as it was.
        method: how units are scored, selected and removed.
        shares: of all units, those gone after each removal, rising, each in [0, 1).
        example_input: [n, ...], gives the shapes.
        masks: where an earlier run stopped; they say which layers take part: by default every layer whose units can be
            removed, whole.
        between: what happens to the network between two removals, such as training; None: nothing.

    Returns:
        Steps, each computed when it is asked for.

    Raises:
        ScheduleError, MaskError, UnsupportedGraph: before any work.
        ScheduleError, SelectionError: in a step, where the selection would empty a layer, or scores or masks do not
            fit.
    """
    start = begin(model, masks, shares, example_input)
    return _iterate(start, method, shares, example_input, between)


def at_initialisation(
    model: nn.Module,
    method: Method,
    shares: Sequence[float],
    train: Split,
    validation: Split,
    settings: FitSettings,
    *,
    masks: Masks | None = None,
    callbacks: StepCallbacks = (),
) -> Iterator[Step]:
    """Prune the untrained model as `iterative` does, then train what is left, in a last step of its own.

    Args:
        model: with its first weights; left as it was.
        method: how units are scored, selected and removed.
        shares: of all units, those gone after each removal, rising, each in [0, 1).
        train, validation: images and labels.
        settings: of the training.
        masks: where an earlier run stopped.
        callbacks: called with every finished epoch.

    Returns:
        Steps, each computed when it is asked for.

    Raises:
        ScheduleError, PruningError: as `iterative`, with what `fit` raises, both before any work.
    """
    start = begin(model, masks, shares, train.images[:1])
    training = _Training(train, validation, settings, callbacks)
    training.check(start)
    return _remove_and_train(start, method, shares, training)


def during_training(
    model: nn.Module,
    method: Method,
    shares: Sequence[float],
    train: Split,
    validation: Split,
    settings: FitSettings,
    *,
    every: int,
    masks: Masks | None = None,
    callbacks: StepCallbacks = (),
) -> Iterator[Step]:
    """Train for some epochs, score, remove up to the next share, and so on; then train on to the last epoch.

    Each removal sees only what the ones before have left, trained in the meantime. The epochs left after the last
    removal make a last step without one.

    The optimiser starts anew after every removal: its moments are averages over a network that is no more, and so
    weights and masks are all that a run needs to go on from where another stopped. A falling rate falls anew as well,
    over each stretch of epochs. The seed of each stretch comes from that of the settings and the number of its step,
    lest every stretch see the images in the same order; the first has the settings' own.

    Args:
        model: left as it was.
        method: how units are scored, selected and removed.
        shares: of all units, those gone after each removal, rising, each in [0, 1).
        train, validation: images and labels.
        settings: of the training; `epochs` are those of all stretches together.
        every: epochs before each removal.
        masks: where an earlier run stopped.
        callbacks: called with every finished epoch.

    Returns:
        Steps, each computed when it is asked for.

    Raises:
        ScheduleError: the epochs do not suffice for all removals; and as `iterative` and `fit`, all before any work.
    """
    start = begin(model, masks, shares, train.images[:1])
    if every < 1:
        raise ScheduleError(f"every={every} is out of range: use 1 epoch or more between removals")
    if every * len(shares) > settings.epochs:
        raise ScheduleError(
            f"{len(shares)} removals, one every {every} epochs, need {every * len(shares)} epochs but there are "
            f"{settings.epochs}: train longer, or remove more often or in fewer steps"
        )
    training = _Training(train, validation, settings, callbacks)
    training.check(start)
    return _train_and_remove(start, method, shares, training, every)


@dataclass(frozen=True, eq=False)
class _Training:
    """What `fit` needs beside a network."""

    train: Split
    validation: Split
    settings: FitSettings
    callbacks: StepCallbacks

    def check(self, pruned: Pruned) -> None:
        """Raise what `fit` refuses, before hours of scoring: without epochs it checks and does no more."""
        fit(pruned.network, self.train, self.validation, replace(self.settings, epochs=0), masks=pruned.masks)

    def fit(self, pruned: Pruned, epochs: int, *, step: int, before: int) -> tuple[Pruned, tuple[Epoch, ...]]:
        """The network trained for some epochs more, and those epochs, numbered on from the ones before."""
        drawn = int(np.random.SeedSequence([self.settings.seed, step]).generate_state(1)[0])
        settings = replace(self.settings, epochs=epochs, seed=self.settings.seed if step == 1 else drawn)
        found: list[Epoch] = []

        def tell(epoch: Epoch) -> None:
            found.append(replace(epoch, index=epoch.index + before))
            for callback in self.callbacks:
                callback(found[-1])

        result = fit(pruned.network, self.train, self.validation, settings, masks=pruned.masks, callbacks=[tell])
        return replace_network(pruned, result.model, self.train.images[:1]), tuple(found)


def _iterate(
    pruned: Pruned, method: Method, shares: Sequence[float], example_input: Tensor, between: Rework | None
) -> Iterator[Step]:
    for index, share in enumerate(shares, start=1):
        if between is not None and index > 1:
            pruned = rework(pruned, between, example_input)
        pruned, step = _step(pruned, method, share, index, example_input)
        yield step


def _remove_and_train(pruned: Pruned, method: Method, shares: Sequence[float], training: _Training) -> Iterator[Step]:
    for index, share in enumerate(shares, start=1):
        pruned, step = _step(pruned, method, share, index, training.train.images[:1])
        yield step
    pruned, epochs = training.fit(pruned, training.settings.epochs, step=1, before=0)
    yield Step(len(shares) + 1, shares[-1], pruned.masks, pruned.network, epochs=epochs)


def _train_and_remove(
    pruned: Pruned, method: Method, shares: Sequence[float], training: _Training, every: int
) -> Iterator[Step]:
    for index, share in enumerate(shares, start=1):
        pruned, epochs = training.fit(pruned, every, step=index, before=every * (index - 1))
        pruned, step = _step(pruned, method, share, index, training.train.images[:1])
        yield replace(step, epochs=epochs)
    done = every * len(shares)
    if done < training.settings.epochs:
        index = len(shares) + 1
        pruned, epochs = training.fit(pruned, training.settings.epochs - done, step=index, before=done)
        yield Step(index, shares[-1], pruned.masks, pruned.network, epochs=epochs)


def _step(pruned: Pruned, method: Method, share: float, index: int, example_input: Tensor) -> tuple[Pruned, Step]:
    smaller, scores, swapped = remove(pruned, method, share, index, example_input)
    back = {layer: np.flatnonzero(mask & ~pruned.masks[layer]) for layer, mask in smaller.masks.items()}
    returned = {layer: tuple(units.tolist()) for layer, units in back.items() if len(units)}
    return smaller, Step(index, share, smaller.masks, smaller.network, scores, swapped, returned)
