"""Pruning: masks from scores, the network without the removed units, and what that saved."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

import training
from flows.adapters import (
    account_of,
    artifacts,
    choice_in_words,
    choose_within_share,
    dataset_of,
    log_choice,
    log_mask_program,
    needs_importance,
    plan_of,
    select,
    swap_tries_of,
)
from flows.cache import EarlierResult, OnPart, StageResult, unheard
from flows.config import Settings
from flows.errors import BudgetExceeded
from flows.reporting import figures
from flows.stages.pruning.mask_pictures import log_mask_pictures
from flows.stages.pruning.pruning_steps import follow
from flows.stages.pruning.refit_log import log_refit, say_refit
from flows.stages.pruning.remove import (
    RemovalFromDense,
    all_kept,
    choose_after_refit,
    refitted_swap_search_of,
    remove_units,
    rework_of,
    swap_search_of,
)
from flows.stages.pruning.tolerance import select_within_tolerance
from flows.stages.scoring import Ranking, rule_values
from formulation import MaskSolution
from training import Dataset, Masks, Method, Removal, Scores, ScoringSet, Selection, SwapSearch, UnitCosts

LOG = logging.getLogger(__name__)
COSTS = "layer_seconds.json"
ROUNDING = 1e-9  # of the budget: a cost summed in another order
KEPT_BY = {"kept_by_floor": "the floor", "kept_by_rounding": "round_to", "kept_by_protection": "leave_alone"}


@dataclass(frozen=True, eq=False)
class _Task:
    """What is pruned, and the result that it goes to."""

    settings: Settings
    result: StageResult
    scored: EarlierResult
    headed: EarlierResult | None
    network: nn.Module
    dataset: Dataset
    scores: Scores
    account: UnitCosts | None

    @property
    def images(self) -> ScoringSet:
        """All scoring sets as one."""
        return artifacts.logged_joined_set(self.scored, self.settings.scoring_sets)


@dataclass(frozen=True, eq=False)
class _Pruned:
    """What pruning came to: the selection, the network without the removed units, and further columns of the table."""

    selection: Selection
    network: nn.Module
    columns: Mapping[str, Mapping[str, NDArray[np.generic]]] = field(default_factory=dict)


def prune_network(
    settings: Settings,
    scored: EarlierResult,
    trained: EarlierResult,
    headed: EarlierResult | None = None,
    *,
    on_part: OnPart = unheard,
) -> StageResult:
    """Remove the units that the settings choose; leaves masks, weights, pictures and both accounts.

    `headed` is the run that left the heads of the blocks, where units are scored by block.
    """
    result = StageResult(on_part)
    dataset = dataset_of(settings)
    network = artifacts.logged_network(trained, settings, dataset)
    scores, example = artifacts.logged_scores(scored), dataset.test.images[:1]
    account = account_of(settings, network, {layer: len(values) for layer, values in scores.items()}, example)
    if account is not None and account.seconds:
        result.add_table(account.seconds, COSTS)
    LOG.info("prune    %s", choice_in_words(settings))
    task = _Task(settings, result, scored, headed, network, dataset, scores, account)
    pruned = _in_steps(task) if settings.schedule == "iterative" else _at_once(task)
    masks = pruned.selection.masks
    log_budget(settings, result, account, masks)
    artifacts.log_masks(result, masks)
    artifacts.log_weights(result, pruned.network)
    result.add_table(figures.unit_columns(scores, masks, pruned.columns), "scores.json")
    line = settings.threshold if settings.selection == "threshold" else None
    result.add_figure(figures.score_histogram(scores, line), "scores.png")
    removal = training.removal(network, masks, example)
    log_removal(result, removal, pruned.selection)
    return result


def _at_once(task: _Task) -> _Pruned:
    settings, network, dataset, scores = task.settings, task.network, task.dataset, task.scores
    columns: dict[str, Scores] = {}
    if settings.selection == "program":
        widths = {layer: len(values) for layer, values in scores.items()}
        selection, solution = choose_within_share(settings, network, task.images, widths)
        log_mask_program(task.result, solution)
        if settings.refit != "false":
            selection = _best_after_refit(task, selection, solution)
    elif settings.rule == "program":
        if needs_importance(settings):
            columns["importance"] = artifacts.logged_importance(task.scored)
        selection = _selection(task, scores, columns.get("importance", scores))
    else:
        values = rule_values(settings, settings.rule, network, dataset, scores)[0]
        columns[settings.rule] = values
        selection = _selection(task, values, values)
    if swap_tries_of(settings) and (settings.selection != "program" or settings.refit == "false"):
        selection = _swapped(task, selection)
    log_mask_pictures(task.result, network, selection.masks)
    removed = remove_units(settings, network, selection.masks, dataset)
    say_refit(removed, len(dataset.train))
    log_refit(settings, task.result, [removed], dataset)
    return _Pruned(selection, removed.network, columns)


def _best_after_refit(task: _Task, selection: Selection, solution: MaskSolution) -> Selection:
    """The masks that are best once the survivors have taken over, with what the program proves of them."""
    choice = choose_after_refit(task.settings, task.network, selection.masks, task.dataset)
    log_choice(task.settings, task.result, task.network, task.images, solution, choice)
    words = (choice.origin, 100 * choice.value, 100 * choice.judged["program"], len(choice.judged))
    LOG.info("prune    best after refit: %s, validation accuracy %.2f %% (program's %.2f %%), of %d masks", *words)
    return replace(selection, masks=choice.masks)


def _selection(task: _Task, scores: Scores, values: Scores) -> Selection:
    if task.settings.selection == "tolerance":
        return select_within_tolerance(task.settings, task.result, task.network, task.dataset, values)
    return select(task.settings, scores, values, task.account)


def _swapped(task: _Task, selection: Selection) -> Selection:
    swap = _swap_search_in(task)
    assert swap is not None
    found = swap(task.network, selection.masks)
    count = sum(found.swaps.values())
    figures_of = {"loss_before_exchange": found.loss_before, "loss_after_exchange": found.loss_after}
    task.result.add_metrics({"exchanges": count, **figures_of})
    words = (count, found.measure, found.loss_after, found.loss_before)
    LOG.info("prune    %d swaps: %s %.4f, was %.4f", *words)
    return replace(selection, masks=found.masks)


def _swap_search_in(task: _Task) -> SwapSearch | None:
    """Swapping judged as the pruned network will be: after refit, where there is one."""
    if task.settings.refit == "false":
        return swap_search_of(task.settings, task.images)
    return refitted_swap_search_of(task.settings, task.network, task.dataset)


def _in_steps(task: _Task) -> _Pruned:
    settings, dataset, images = task.settings, task.dataset, task.images
    widths = {layer: len(values) for layer, values in task.scores.items()}
    plan = plan_of(settings, widths, task.account)
    ranking = Ranking(settings, dataset, images, task.scores, task.headed)
    anew = RemovalFromDense(settings, task.network, dataset)
    after = rework_of(settings, dataset) if settings.refit == "false" else anew
    method = Method(ranking, plan.selector, _swap_search_in(task), after)
    example = dataset.test.images[:1]
    steps = training.iterative(task.network, method, plan.shares, example, masks=all_kept(widths))
    done = follow(settings, task.result, steps, plan, task.network, dataset, ranking.certificates, anew.done)
    log_refit(settings, task.result, anew.done, dataset)
    return _Pruned(Selection(done.last.masks, {}), done.last.network, {"step": done.times})


def log_budget(settings: Settings, result: StageResult, account: UnitCosts | None, masks: Masks) -> None:
    """Log the part of the whole network's cost that remains under masks, where there is a budget.

    Raises BudgetExceeded where it is above the budget.
    """
    if account is None:
        return
    cost = account.cost_of(masks)
    result.add_metrics({"budget_cost": cost})
    if cost > settings.budget * (1.0 + ROUNDING):
        raise BudgetExceeded(
            f"what is left costs {cost:.6g} of the whole network, more than budget={settings.budget:g}: prune again "
            f"with schedule=one_shot, or give a larger budget"
        )


def log_removal(result: StageResult, removal: Removal, selection: Selection) -> None:
    """Log both accounts of what a selection removes, and say it."""
    removed = training.counts(selection.masks)
    result.add_metrics(
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
    result.add_json({**asdict(removal), **kept_by}, "removal.json")
    result.add_tags({"masks": training.masks_digest(selection.masks)[:16]})
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
