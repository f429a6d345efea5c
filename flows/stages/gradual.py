"""Training a network while its units go: between epochs, or before the first."""

import logging
from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

import formulation
import training
from flows import figures, handover, tracking
from flows.selection import Plan, account_of, choice_in_words, plan_of
from flows.settings import Settings
from flows.stages.fit import log_data, report_epochs
from flows.stages.prune import COSTS, log_budget, log_removal
from flows.stages.rank import Ranking
from flows.stages.remove import all_kept, exchange_of, rework_of
from flows.stages.steps import follow
from flows.tracking import Run
from flows.translation import dataset_of, fit_settings_of, network_of, scoring_sets_of
from training import Dataset, Method, ScoringSet, Selection, Step

LOG = logging.getLogger(__name__)


def train_gradually(settings: Settings, run: Run) -> None:
    """Train the settings' network and remove units in steps; leaves masks, weights, pictures and both accounts."""
    dataset = dataset_of(settings)
    network = network_of(settings, dataset)
    log_data(settings, run, network, dataset)
    images = _draw(settings, run, network, dataset)
    example = dataset.test.images[:1]
    widths = dict(formulation.outline(network, example).units)
    account = account_of(settings, network, widths, example)
    if account is not None and account.seconds:
        tracking.log_table(run, account.seconds, COSTS)
    plan = plan_of(settings, widths, account)
    ranking = Ranking(settings, dataset, images, {layer: np.zeros(units) for layer, units in widths.items()})
    method = Method(ranking, plan.selector, exchange_of(settings, images), rework_of(settings, dataset))
    LOG.info("gradual  %s, %s", choice_in_words(settings, gradual=True), settings.when.replace("_", " "))
    steps = schedule_of(settings, network, method, plan, dataset, widths, run)
    done = follow(settings, run, steps, plan, network, dataset, ranking.certificates)
    log_budget(settings, run, account, done.last.masks)
    handover.save_masks(run, done.last.masks)
    handover.save_weights(run, done.last.network)
    table = figures.unit_columns(done.values, done.last.masks, {"step": done.times})
    tracking.log_table(run, table, "scores.json")
    log_removal(run, training.removal(network, done.last.masks, example), Selection(done.last.masks, {}))


def schedule_of(
    settings: Settings,
    network: nn.Module,
    method: Method,
    plan: Plan,
    dataset: Dataset,
    widths: dict[str, int],
    run: Run | None = None,
) -> Iterator[Step]:
    """The schedule, which works only when asked for steps; epochs are logged to the run, if any.

    Raises ScheduleError and whatever else its arguments have against it, before any work.
    """
    fit_settings = fit_settings_of(settings, settings.epochs)
    given = (network, method, plan.shares, dataset.train, dataset.validation, fit_settings)
    callbacks = [] if run is None else [report_epochs(run, "gradual", settings.epochs)]
    if settings.when == "at_initialisation":
        return training.at_initialisation(*given, masks=all_kept(widths), callbacks=callbacks)
    return training.during_training(*given, every=settings.every, masks=all_kept(widths), callbacks=callbacks)


def _draw(settings: Settings, run: Run, network: nn.Module, dataset: Dataset) -> ScoringSet:
    """Scoring images as one set, of any that the network classifies: untrained, it is wrong on most."""
    sets = scoring_sets_of(settings, network, dataset, correct_only=False)
    for number, scoring_set in enumerate(sets, start=1):
        handover.save_scoring_set(run, scoring_set, number)
    return ScoringSet(*(torch.cat([getattr(each, name) for each in sets]) for name in ("images", "labels", "indices")))
