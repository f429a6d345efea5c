"""Pruning: masks from scores, the network without the removed units, and what that saved."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

import training
from flows import figures, handover, tracking
from flows.accounts import Account
from flows.selection import account_of, choice_in_words, needs_importance, plan_of, select
from flows.settings import Settings
from flows.stages.pictures import log_mask_pictures
from flows.stages.rank import Ranking, rule_values
from flows.stages.remove import all_kept, exchange_of, rework_of, without
from flows.stages.steps import follow
from flows.tracking import Run
from flows.translation import dataset_of, tries_of
from training import Dataset, Masks, Method, Removal, Scores, ScoringSet, Selection

LOG = logging.getLogger(__name__)
COSTS = "layer_seconds.json"
KEPT_BY = {"kept_by_floor": "the floor", "kept_by_rounding": "round_to", "kept_by_protection": "leave_alone"}


@dataclass(frozen=True, eq=False)
class _Task:
    """What is pruned, and where that is logged."""

    settings: Settings
    run: Run
    scored: Run
    headed: Run | None
    network: nn.Module
    dataset: Dataset
    scores: Scores
    account: Account | None

    @property
    def images(self) -> ScoringSet:
        """All scoring sets as one."""
        return handover.load_joined_set(self.scored, self.settings.scoring_sets)


@dataclass(frozen=True, eq=False)
class _Pruned:
    """What pruning came to: the selection, the network without the removed units, and further columns of the table."""

    selection: Selection
    network: nn.Module
    columns: Mapping[str, Mapping[str, NDArray[np.generic]]] = field(default_factory=dict)


def prune_network(settings: Settings, run: Run, scored: Run, trained: Run, headed: Run | None = None) -> None:
    """Remove the units that the settings choose; leaves masks, weights, pictures and both accounts.

    `headed` is the run that left the heads of the blocks, where units are scored by block.
    """
    dataset = dataset_of(settings)
    network = handover.load_network(trained, settings, dataset)
    scores, example = handover.load_scores(scored), dataset.test.images[:1]
    account = account_of(settings, network, {layer: len(values) for layer, values in scores.items()}, example)
    if account is not None and account.seconds:
        tracking.log_table(run, account.seconds, COSTS)
    LOG.info("prune    %s", choice_in_words(settings))
    task = _Task(settings, run, scored, headed, network, dataset, scores, account)
    pruned = _in_steps(task) if settings.schedule == "iterative" else _at_once(task)
    masks = pruned.selection.masks
    log_budget(settings, run, account, masks)
    handover.save_masks(run, masks)
    handover.save_weights(run, pruned.network)
    tracking.log_table(run, figures.unit_columns(scores, masks, pruned.columns), "scores.json")
    line = settings.threshold if settings.selection == "threshold" else None
    tracking.log_figure(run, figures.score_histogram(scores, line), "scores.png")
    removal = training.removal(network, masks, example)
    log_removal(run, removal, pruned.selection)


def _at_once(task: _Task) -> _Pruned:
    settings, network, dataset, scores = task.settings, task.network, task.dataset, task.scores
    columns: dict[str, Scores] = {}
    if settings.rule == "program":
        if needs_importance(settings):
            columns["importance"] = handover.load_importance(task.scored)
        selection = select(settings, scores, columns.get("importance", scores), task.account)
    else:
        values = rule_values(settings, settings.rule, network, dataset, scores)[0]
        columns[settings.rule] = values
        selection = select(settings, values, values, task.account)
    if tries_of(settings):
        selection = _exchanged(task, selection)
    log_mask_pictures(task.run, network, selection.masks)
    return _Pruned(selection, without(settings, network, selection.masks, dataset), columns)


def _exchanged(task: _Task, selection: Selection) -> Selection:
    exchange = exchange_of(task.settings, task.images)
    assert exchange is not None
    found = exchange(task.network, selection.masks)
    count = sum(found.exchanges.values())
    figures_of = {"loss_before_exchange": found.loss_before, "loss_after_exchange": found.loss_after}
    tracking.log_metrics(task.run, {"exchanges": count, **figures_of})
    LOG.info("prune    %d exchanges: cross-entropy %.4f, was %.4f", count, found.loss_after, found.loss_before)
    return replace(selection, masks=found.masks)


def _in_steps(task: _Task) -> _Pruned:
    settings, dataset, images = task.settings, task.dataset, task.images
    widths = {layer: len(values) for layer, values in task.scores.items()}
    plan = plan_of(settings, widths, task.account)
    ranking = Ranking(settings, dataset, images, task.scores, task.headed)
    method = Method(ranking, plan.selector, exchange_of(settings, images), rework_of(settings, dataset))
    example = dataset.test.images[:1]
    steps = training.iterative(task.network, method, plan.shares, example, masks=all_kept(widths))
    done = follow(settings, task.run, steps, plan, task.network, dataset, ranking.certificates)
    return _Pruned(Selection(done.last.masks, {}), done.last.network, {"step": done.times})


def log_budget(settings: Settings, run: Run, account: Account | None, masks: Masks) -> None:
    """Log the part of the whole network's cost that remains under masks, where there is a budget.

    Raises BudgetExceeded where it is above the budget.
    """
    if account is None:
        return
    tracking.log_metrics(run, {"budget_cost": account.cost_of(masks)})
    account.require(masks, settings.budget)


def log_removal(run: Run, removal: Removal, selection: Selection) -> None:
    """Log both accounts of what a selection removes, and say it."""
    removed = training.counts(selection.masks)
    tracking.log_metrics(
        run,
        {
            "units_removed": removal.units_removed,
            "units_removed_share": removal.units_removed_share,
            "published_parameters_removed_share": removal.published_parameters_removed,
            "parameters_removed_share": removal.parameters_removed_share,
            "multiply_adds_removed_share": removal.multiply_adds_removed_share,
            **{f"units_removed.{layer}": count for layer, count in removed.items()},
        },
    )
    kept_by = {name: getattr(selection, name) for name in KEPT_BY}
    tracking.log_json(run, {**asdict(removal), **kept_by}, "removal.json")
    tracking.log_tags(run, {"masks": training.masks_digest(selection.masks)[:16]})
    _say_what_was_removed(removal, selection)


def _say_what_was_removed(removal: Removal, selection: Selection) -> None:
    if not removal.units_removed:
        LOG.warning("prune    nothing is removed: no unit falls under the selection")
    for name, reason in KEPT_BY.items():
        for layer, count in getattr(selection, name).items():
            LOG.info("prune    %s: %d units stay only because of %s", layer, count, reason)
    LOG.info(
        "prune    %d of %d units removed (%.1f %%): %.1f %% of the parameters (%.1f %% as published), "
        "%.1f %% of the multiply-adds",
        *(removal.units_removed, removal.units_total, 100 * removal.units_removed_share),
        *(100 * removal.parameters_removed_share, 100 * removal.published_parameters_removed),
        100 * removal.multiply_adds_removed_share,
    )
