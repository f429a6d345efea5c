"""The verb `prune`: a network, a loader and a goal in, a plain smaller network out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

import training
from critical_neurons.given_masks import read_ranking
from critical_neurons.goals import Goal, goal_of, within_cost
from critical_neurons.loaders import Samples, read_samples
from critical_neurons.prune_result import PruneResult
from critical_neurons.removal_trial import Trial, Trials
from critical_neurons.score_result import ScoreResult
from critical_neurons.scored import DEFAULTS, changed, score
from formulation import ScoreSettings
from naming import USUAL_IMAGES, USUAL_REFIT_IMAGES, USUAL_TOLERANCE
from training import Limits, Masks, Scores, SelectionError

USUAL = Goal("tolerance", USUAL_TOLERANCE)
HELD_BACK = 4  # every fourth image measures accuracy, where no others are given to


def prune(
    network: nn.Module,
    data: Any,
    *,
    tolerance: float | None = None,
    share: float | None = None,
    parameters: float | None = None,
    multiply_adds: float | None = None,
    latency: float | None = None,
    scores: Any = None,
    validation: Any = None,
    refit: bool = True,
    floor: int = 1,
    round_to: int = 1,
    leave_alone: Sequence[str] = (),
    images: int = USUAL_IMAGES,
    refit_images: int = USUAL_REFIT_IMAGES,
    most_images: int = 10_000,
    settings: ScoreSettings = DEFAULTS,
    threads: int | None = None,
    device: str = "cpu",
    **changes: Any,
) -> PruneResult:
    """Make a trained network smaller: units of low importance go, the survivors are refitted, the rest is cut out.

    Args:
        network: returns logits; left as it was.
        data: a DataLoader, a data set, an iterable of (images, labels), or the pair: images as the network takes them.
        tolerance: as much goes, the same share of every layer, as costs at most so many points of accuracy (0.5 by
            default, where no goal is given).
        share: of each layer's units that goes.
        parameters, multiply_adds, latency: the part of the dense network's that may remain; latency is measured.
        scores: what `score` returned, or by layer one number per unit, the lowest go first; None: they are scored.
        validation: like data, to measure accuracy on; None: every fourth image of data is held back for it.
        refit: fit the survivors anew, without labels, where accuracy does not fall by it.
        floor, round_to, leave_alone: units that each layer keeps at least; kept widths are multiples of it; names or
            patterns of layers that keep all.
        images: scored on, of those that are not held back.
        refit_images: survivors are fitted to.
        most_images: that are read of data and of validation.
        settings, changes: of the scores, as for `score`.
        threads: of torch and of the solver; None: that of the settings.
        device: where passes are made; the result is on the CPU.

    Returns:
        The smaller network with its account; `print` says what went, what it cost and what is proved.

    Raises:
        TrainingError: data, scores, masks or a goal that do not fit, units that cannot be followed.
        FormulationError: as `score`; a budget that no widths meet.
    """
    started = time.monotonic()
    goal = goal_of(
        {
            "tolerance": tolerance,
            "share": share,
            "parameters": parameters,
            "multiply_adds": multiply_adds,
            "latency": latency,
        },
        USUAL,
    )
    limits = Limits(floor, round_to, tuple(leave_alone))
    asked = changed(settings, changes if threads is None else {"threads": threads, **changes})
    working, judging = _divided(read_samples(data, most_images), validation, most_images)
    result, values = _ranking(network, working, scores, images, asked, device)
    training.validate_masks(network, {layer: np.ones(len(each), np.bool_) for layer, each in values.items()})
    alone = limits.left_alone(values)
    trials = Trials(network, working.images[:refit_images], judging, refit, asked.threads, device, alone)
    before = trials.accuracy_of(network)
    together = result is not None and result.comparable
    chosen = _chosen(goal, trials, values, limits, before, together)
    masks, trial = chosen.masks, chosen.trial
    followed, example = trials.followed(masks), working.images[:1]
    removal = training.removal(network, followed, example)
    return PruneResult(
        network=training.compact(trial.network, followed, example).cpu().eval(),
        masks=masks,
        removal=replace(removal, units_total=sum(len(mask) for mask in masks.values())),
        accuracy_before=before,
        accuracy=trial.accuracy,
        accuracy_without_refit=trial.plain_accuracy,
        refitted=trial.refitted,
        images=len(judging),
        asked=f"{goal} ({chosen.remaining:.3f} of them do)" if chosen.remaining else str(goal),
        tried=chosen.tried,
        seconds=time.monotonic() - started,
        scores=result,
        notes=(f"no refit: {trial.fault}",) if trial.fault else (),
    )


@dataclass(frozen=True, eq=False)
class _Chosen:
    """The masks, the network without the units, how many were looked at, and what remains of a cost (or 0)."""

    masks: Masks
    trial: Trial
    tried: int
    remaining: float = 0.0


def _divided(given: Samples, validation: Any, most: int) -> tuple[Samples, Samples]:
    """Images to score on and to fit to, and images to measure accuracy on."""
    if validation is not None:
        return given, read_samples(validation, most)
    held = torch.arange(len(given)) % HELD_BACK == HELD_BACK - 1
    if not bool(held.any()):
        raise SelectionError(
            f"{len(given)} images are too few to hold some back: give {HELD_BACK} or more, or validation="
        )
    return given.taken(~held), given.taken(held)


def _ranking(
    network: nn.Module, working: Samples, scores: Any, images: int, settings: ScoreSettings, device: str
) -> tuple[ScoreResult | None, Scores]:
    if scores is None:
        scores = score(network, (working.images, working.labels), images=images, settings=settings, device=device)
    if isinstance(scores, ScoreResult):
        return scores, scores.importance
    return None, read_ranking(scores)


def _chosen(goal: Goal, trials: Trials, values: Scores, limits: Limits, before: float, together: bool) -> _Chosen:
    """`together`: values of different layers compare; `before` is the dense network's accuracy."""
    if goal.name == "share":
        masks = training.by_share(values, goal.value, limits).masks
        return _Chosen(masks, trials.without(masks), 1)
    if goal.name != "tolerance":
        example, threads = trials.fitted_to[:1], trials.threads
        masks, cost = within_cost(trials.dense, values, goal, limits, example, together=together, threads=threads)
        return _Chosen(masks, trials.without(masks), 1, cost)
    free = limits.floors({layer: len(each) for layer, each in values.items()})
    found, tried = training.largest_share(
        lambda part: training.by_share(values, part, limits),
        lambda masks: trials.without(masks).accuracy,
        sum(len(values[layer]) for layer in free),
        before - goal.value / 100,
    )
    # Made once more: so many networks need not be kept until it is known which.
    return _Chosen(found.selection.masks, trials.without(found.selection.masks), len(tried))
