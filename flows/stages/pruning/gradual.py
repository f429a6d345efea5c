"""Training a network while its units go: between epochs, or before the first."""

import logging
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

import formulation
import training
from flows.adapters import (
    StepPlan,
    account_of,
    artifacts,
    choice_in_words,
    dataset_of,
    fit_settings_of,
    network_of,
    plan_of,
    scoring_sets_of,
)
from flows.cache import OnPart, StageResult, unheard
from flows.config import Settings
from flows.reporting import figures
from flows.stages.fitting import log_data, report_epochs
from flows.stages.pruning.prune import COSTS, log_budget, log_removal
from flows.stages.pruning.pruning_steps import follow
from flows.stages.pruning.remove import all_kept, rework_of, swap_search_of
from flows.stages.scoring import Ranking
from training import Dataset, Method, ScoringSet, Selection, Step

LOG = logging.getLogger(__name__)


def train_gradually(settings: Settings, *, on_part: OnPart = unheard) -> StageResult:
    """Train the settings' network and remove units in steps; leaves masks, weights, pictures and both accounts."""
    result = StageResult(on_part)
    dataset = dataset_of(settings)
    network = network_of(settings, dataset)
    log_data(settings, result, network, dataset)
    images = _draw(settings, result, network, dataset)
    example = dataset.test.images[:1]
    widths = dict(formulation.outline(network, example).units)
    account = account_of(settings, network, widths, example)
    if account is not None and account.seconds:
        result.add_table(account.seconds, COSTS)
    plan = plan_of(settings, widths, account)
    ranking = Ranking(settings, dataset, images, {layer: np.zeros(units) for layer, units in widths.items()})
    method = Method(ranking, plan.selector, swap_search_of(settings, images), rework_of(settings, dataset))
    LOG.info("gradual  %s, %s", choice_in_words(settings, gradual=True), settings.when.replace("_", " "))
    steps = schedule_of(settings, network, method, plan, dataset, widths, result)
    done = follow(settings, result, steps, plan, network, dataset, ranking.certificates)
    log_budget(settings, result, account, done.last.masks)
    artifacts.log_masks(result, done.last.masks)
    artifacts.log_weights(result, done.last.network)
    table = figures.unit_columns(done.values, done.last.masks, {"step": done.times})
    result.add_table(table, "scores.json")
    log_removal(result, training.removal(network, done.last.masks, example), Selection(done.last.masks, {}))
    return result


def schedule_of(
    settings: Settings,
    network: nn.Module,
    method: Method,
    plan: StepPlan,
    dataset: Dataset,
    widths: dict[str, int],
    result: StageResult | None = None,
) -> Iterator[Step]:
    """The schedule, which works only when asked for steps; epochs go to the result, if any.

    Raises ScheduleError and whatever else its arguments have against it, before any work.
    """
    fit_settings = fit_settings_of(settings, settings.epochs)
    given = (network, method, plan.shares, dataset.train, dataset.validation, fit_settings)
    callbacks = [] if result is None else [report_epochs(result, "gradual", settings.epochs)]
    if settings.when == "at_initialisation":
        return training.at_initialisation(*given, masks=all_kept(widths), callbacks=callbacks)
    return training.during_training(*given, every=settings.every, masks=all_kept(widths), callbacks=callbacks)


def _draw(settings: Settings, result: StageResult, network: nn.Module, dataset: Dataset) -> ScoringSet:
    """Scoring images as one set, of any that the network classifies: untrained, it is wrong on most."""
    sets = scoring_sets_of(settings, network, dataset, correct_only=False)
    for number, scoring_set in enumerate(sets, start=1):
        artifacts.log_scoring_set(result, scoring_set, number)
    return ScoringSet(*(torch.cat([getattr(each, name) for each in sets]) for name in ("images", "labels", "indices")))
