"""Selection by tolerance: the smallest network that costs at most so many points of validation accuracy."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

import training
from flows.adapters import free_layers, limits_of, scores_compare
from flows.cache import StageResult
from flows.config import Settings
from flows.reporting import plots
from flows.stages.pruning.accuracy import evaluation_of
from flows.stages.pruning.remove import remove_units
from training import Dataset, Masks, Removal, Scores, Selection, SmallestShare

LOG = logging.getLogger(__name__)
LAYER_GRID = (20, 40, 60, 80)  # percentages of each layer's own curve
ALL, APART = "all layers", "layers whose outputs are not summed with others'"
CURVE, SENSITIVITY = "tolerance", "sensitivity"
TOLD, LONG = 1.0, 10.0  # seconds of a network: from which on it has a line, and the first one a remedy


@dataclass(eq=False)
class TrialPace:
    """How far the trials have come, told of each that is worth waiting for; `about` how many there will be."""

    about: int
    tried: int = 0

    def tell(self, seconds: float) -> None:
        """Count a network that took so long."""
        self.tried += 1
        if seconds >= TOLD:
            words = (self.tried, max(self.about, self.tried), seconds)
            LOG.info("prune    tolerance: network %d of about %d tried, %.1f s", *words)
        if seconds >= LONG and self.tried == 1:
            LOG.info("prune    tolerance: each is refitted and measured; selection=share tries one, at share=<part>")


@dataclass(frozen=True, eq=False)
class _Trial:
    """The dense network, and how networks on the way are made and judged: as the settings remove and refit."""

    settings: Settings
    network: nn.Module
    dataset: Dataset
    values: Scores
    pace: TrialPace

    def accuracy(self, masks: Masks) -> float:
        start = time.monotonic()
        found = self._measured(masks)
        self.pace.tell(time.monotonic() - start)
        return found

    def _measured(self, masks: Masks) -> float:
        removed = remove_units(self.settings, self.network, masks, self.dataset)
        if removed.refitted is not None:
            return removed.accuracies[removed.kept]
        return evaluation_of(self.settings, removed.network, self.dataset, "validation").accuracy

    def removal(self, masks: Masks) -> Removal:
        return training.removal(self.network, masks, self.dataset.train.images[:1])

    def multiply_adds(self, masks: Masks) -> float:
        return self.removal(masks).multiply_adds_after


def select_within_tolerance(
    settings: Settings, result: StageResult, network: nn.Module, dataset: Dataset, values: Scores
) -> Selection:
    """Remove as many units as cost at most `tolerance` points of validation accuracy, after refit where there is one.

    The share of units that goes by the ranking is found in two passes: the largest of 10, 20, ... 90 % that holds, then
    bisection between it and the next one, to the unit. Accuracy need not fall evenly with the share: what is found
    holds, and the next larger share tried did not. Where outputs of layers are summed with others', as in a residual
    stream, a second search leaves these layers whole, and of both that counts which leaves fewer multiply-adds; the tag
    `tolerance_units_of` says which. Logs that search's accuracy against cost, by shares of the units that it may take,
    and each layer's own curve. Test images are not looked at.
    """
    free = free_layers(settings, {layer: len(each) for layer, each in values.items()})
    followed = set(free) - set(training.unfollowed(network, dataset.train.images[:1], free))
    summed = training.summed_layers(network, dataset.train.images[:1], sorted(followed))
    units = sum(len(values[layer]) for layer in free)
    pace = TrialPace(training.shares_tried(units) * (2 if summed else 1) + len(free) * len(LAYER_GRID))
    trial = _Trial(settings, network, dataset, values, pace)
    dense = evaluation_of(settings, network, dataset, "validation").accuracy
    least = dense - settings.tolerance / 100
    rule = training.by_quantile if scores_compare(settings) else training.by_share
    found = training.smallest_share(
        rule, values, limits_of(settings), summed, trial.accuracy, least, trial.multiply_adds
    )
    chosen = found.point
    result.add_tags({"tolerance_units_of": APART if found.apart else ALL})
    if found.apart:
        LOG.info("prune    tolerance: units of %s go, which leaves fewer multiply-adds", APART)
    curves = _layer_curves(trial, dense)
    _log(result, trial, found, dense, least)
    _log_layers(result, curves, least)
    LOG.info(
        "prune    tolerance of %g points: %d units go, validation accuracy %.2f %%, dense %.2f %%; %d networks tried",
        *(settings.tolerance, sum(training.counts(chosen.selection.masks).values())),
        *(100 * chosen.accuracy, 100 * dense, found.tried),
    )
    return chosen.selection


def _layer_curves(trial: _Trial, dense: float) -> dict[str, list[tuple[int, float]]]:
    """By layer, (percentage of its units gone, validation accuracy) where the others stay whole."""
    widths = {layer: len(each) for layer, each in trial.values.items()}
    whole = {layer: np.ones(units, np.bool_) for layer, units in widths.items()}
    found: dict[str, list[tuple[int, float]]] = {}
    for layer in free_layers(trial.settings, widths):
        found[layer] = [(0, dense)]
        for percentage in LAYER_GRID:
            own = training.by_share({layer: trial.values[layer]}, percentage / 100).masks
            found[layer].append((percentage, trial.accuracy({**whole, **own})))
    return found


def _log(result: StageResult, trial: _Trial, search: SmallestShare, dense: float, least: float) -> None:
    chosen = search.point
    removals = ((each, trial.removal(each.selection.masks)) for each in search.points)
    found = sorted(removals, key=lambda pair: pair[1].units_removed)
    columns: dict[str, list[object]] = {"share": [each.share for each, _ in found]}
    for name in ("units_removed", "parameters_removed_share", "multiply_adds_removed_share"):
        columns[name] = [getattr(removal, name) for _, removal in found]
    columns["validation_accuracy"] = [each.accuracy for each, _ in found]
    columns["chosen"] = [each is chosen for each, _ in found]
    result.add_table(columns, f"{CURVE}.json")

    def left(removal: Removal, name: str) -> float:
        return 1 - float(getattr(removal, f"{name}_removed_share"))

    curve = {
        name: [(1.0, dense), *((left(removal, name), each.accuracy) for each, removal in found)]
        for name in ("parameters", "multiply_adds")
    }
    gone = trial.removal(chosen.selection.masks)
    taken = {name: (left(gone, name), chosen.accuracy) for name in curve}
    result.add_figure(plots.cost_figure(curve, taken, least), f"{CURVE}.png")
    result.add_metrics(
        {
            "tolerance_dense_validation_accuracy": dense,
            "tolerance_validation_accuracy": chosen.accuracy,
            "tolerance_networks_tried": search.tried,
        }
    )


def _log_layers(result: StageResult, curves: Mapping[str, Sequence[tuple[int, float]]], least: float) -> None:
    rows = [(layer, percentage, accuracy) for layer, curve in curves.items() for percentage, accuracy in curve]
    names = ("layer", "percentage", "validation_accuracy")
    result.add_table({name: [row[at] for row in rows] for at, name in enumerate(names)}, f"{SENSITIVITY}.json")
    result.add_figure(plots.sensitivity_figure(curves, least), f"{SENSITIVITY}.png")
