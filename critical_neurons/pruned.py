"""The verb `prune`: a network, a loader and a goal in, a plain smaller network out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

import training
from critical_neurons.given_masks import read_ranking
from critical_neurons.loaders import Samples, read_samples
from critical_neurons.progress import Progress, silent
from critical_neurons.prune_result import PruneResult
from critical_neurons.removable_layers import (
    layers_to_leave,
    left_alone,
    other_rankings,
    require_fitting,
)
from critical_neurons.removal.chosen_units import Removable, units_for_goal
from critical_neurons.removal.goals import Goal, goal_of
from critical_neurons.removal.removal_trial import Trial, Trials, measure_of
from critical_neurons.score_result import ScoreResult
from critical_neurons.scored import DEFAULTS, changed, require_network, score
from formulation import InvalidSetting, ScoreSettings
from naming import USUAL_IMAGES, USUAL_REFIT_IMAGES, USUAL_TOLERANCE, ScoreLoss
from training import Limits, Scores, SelectionError

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
    progress: Progress = silent,
    **changes: Any,
) -> PruneResult:
    """Make a trained network smaller: units of low importance go, the survivors are refitted, the rest is cut out.

    Args:
        network: returns logits; left as it was.
        data: a DataLoader, a data set, an iterable of (images, labels), or the pair: images as the network takes them.
        tolerance: as much goes, the same share of every layer, as costs at most so many points of accuracy (0.5 by
            default, where no goal is given); with `loss="squared"` points of R^2.
        share: of each layer's units that goes.
        parameters, multiply_adds, latency: the part of the dense network's that may remain; latency is measured.
        scores: what `score` returned, or by layer one number per unit, the lowest go first; None: they are scored, and
            where that is better after refit the units go that cost the network's answers least, in the same numbers,
            or within a cost of parameters or multiply-adds in numbers of their own. To a tolerance and
            within such a cost, layers whose outputs are summed with others', as in a residual stream, keep all units
            where that is better.
            Scored layers whose units cannot be removed keep them, and a note says so.
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
        progress: told what happens, line by line: `progress=print`. With a tolerance some fifteen shares are tried,
            and as many more where layers are summed, as in residual networks.

    Returns:
        The smaller network with its account; `print` says what went, what it cost and what is proved.

    Raises:
        SelectionError: a goal out of range, two goals, or no layer that may lose units.
        TrainingError: data, scores, masks or a goal that do not fit, units that cannot be followed.
        InvalidSetting: as `score`; another loss than that of the scores.
        FormulationError: as `score`; a budget that no widths meet.
    """
    started = time.monotonic()
    require_network(network)
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
    if not isinstance(refit, bool):
        raise SelectionError(f"refit={refit!r}: use True or False")
    named = (leave_alone,) if isinstance(leave_alone, str) else tuple(leave_alone)
    asked = changed(settings, changes if threads is None else {"threads": threads, **changes}, prune)
    loss: ScoreLoss = asked.loss
    if isinstance(scores, ScoreResult):
        loss = scores.certificate.settings.get("loss", "cross_entropy")
        if loss != asked.loss and ("loss" in changes or asked.loss != DEFAULTS.loss):
            raise InvalidSetting(
                f"loss={asked.loss!r}, and the scores were made with loss={loss!r}: leave it out, or score anew"
            )
    quantities, measure = loss == "squared", measure_of(loss)
    goal = replace(goal, measure=measure)
    working, judging = _divided(
        read_samples(data, most_images, quantities=quantities), validation, most_images, quantities=quantities
    )
    result, values = _ranking(network, working, scores, images, asked, device, progress)
    require_fitting(network, values, working.images[:1])
    refused = {} if result is None else layers_to_leave(network, working.images[:1], values, named)
    limits = Limits(floor, round_to, (*named, *refused))
    alone = limits.left_alone(values)
    if len(alone) == len(values):
        raise SelectionError("every layer is left alone: name fewer, or give a network whose units can be followed")
    fitted_to = working.images[:refit_images]
    others = other_rankings(network, fitted_to, values, alone) if refit and scores is None and not quantities else ()
    trials = Trials(network, fitted_to, judging, refit, asked.threads, device, alone, others, measure)
    before = trials.accuracy_of(network)
    free = tuple(layer for layer in values if layer not in alone)
    summed = training.summed_layers(network, working.images[:1], free) if scores is None else ()
    units = Removable(values, limits, result is not None and result.comparable, summed)
    chosen = units_for_goal(goal, trials, units, before, progress)
    masks, trial, doubts = chosen.masks, chosen.trial, result.notes if result else ()
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
        measure=measure,
        notes=tuple(filter(None, (*chosen.notes, left_alone(refused), _no_refit(trial), *doubts))),
    )


def _divided(given: Samples, validation: Any, most: int, *, quantities: bool) -> tuple[Samples, Samples]:
    """Images to score on and to fit to, and images to measure accuracy on."""
    if validation is not None:
        return given, read_samples(validation, most, quantities=quantities)
    held = torch.arange(len(given)) % HELD_BACK == HELD_BACK - 1
    if not bool(held.any()):
        raise SelectionError(
            f"{len(given)} images are too few to hold some back: give {HELD_BACK} or more, or validation="
        )
    return given.taken(~held), given.taken(held)


def _ranking(
    network: nn.Module,
    working: Samples,
    scores: Any,
    images: int,
    settings: ScoreSettings,
    device: str,
    progress: Progress,
) -> tuple[ScoreResult | None, Scores]:
    if scores is None:
        given = (working.images, working.labels)
        scores = score(network, given, images=images, settings=settings, device=device, progress=progress)
    if isinstance(scores, ScoreResult):
        return scores, scores.importance
    return None, read_ranking(scores)


def _no_refit(trial: Trial) -> str:
    return f"no refit: {trial.fault}" if trial.fault else ""
