"""Selection by tolerance: the smallest network that costs at most so many points of validation accuracy."""

import logging
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
from training import Dataset, Masks, Removal, Scores, Selection, SharePoint

LOG = logging.getLogger(__name__)
LAYER_GRID = (20, 40, 60, 80)  # percentages of each layer's own curve
CURVE, SENSITIVITY = "tolerance", "sensitivity"


@dataclass(frozen=True, eq=False)
class _Trial:
    """The dense network, and how networks on the way are made and judged: as the settings remove and refit."""

    settings: Settings
    network: nn.Module
    dataset: Dataset
    values: Scores

    def select(self, share: float) -> Selection:
        rule = training.by_quantile if scores_compare(self.settings) else training.by_share
        return rule(self.values, share, limits_of(self.settings))

    def accuracy(self, masks: Masks) -> float:
        removed = remove_units(self.settings, self.network, masks, self.dataset)
        if removed.refitted is not None:
            return removed.accuracies[removed.kept]
        return evaluation_of(self.settings, removed.network, self.dataset, "validation").accuracy

    def removal(self, point: SharePoint) -> Removal:
        return training.removal(self.network, point.selection.masks, self.dataset.train.images[:1])


def select_within_tolerance(
    settings: Settings, result: StageResult, network: nn.Module, dataset: Dataset, values: Scores
) -> Selection:
    """Remove as many units as cost at most `tolerance` points of validation accuracy, after refit where there is one.

    The share of units that goes by the ranking is found in two passes: the largest of 10, 20, ... 90 % that holds, then
    bisection between it and the next one, to the unit. Accuracy need not fall evenly with the share: what is found
    holds, and the next larger share tried did not. Logs accuracy against cost, and each layer's own curve. Test images
    are not looked at.
    """
    trial = _Trial(settings, network, dataset, values)
    dense = evaluation_of(settings, network, dataset, "validation").accuracy
    least = dense - settings.tolerance / 100
    free = free_layers(settings, {layer: len(each) for layer, each in values.items()})
    units = sum(len(values[layer]) for layer in free)
    chosen, points = training.largest_share(trial.select, trial.accuracy, units, least)
    curves = _layer_curves(trial, dense)
    _log(result, trial, points, chosen, dense, least)
    _log_layers(result, curves, least)
    LOG.info(
        "prune    tolerance of %g points: %d units go, validation accuracy %.2f %%, dense %.2f %%; %d networks tried",
        *(settings.tolerance, sum(training.counts(chosen.selection.masks).values())),
        *(100 * chosen.accuracy, 100 * dense, len(points)),
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


def _log(
    result: StageResult,
    trial: _Trial,
    points: Sequence[SharePoint],
    chosen: SharePoint,
    dense: float,
    least: float,
) -> None:
    found = sorted(((each, trial.removal(each)) for each in points), key=lambda pair: pair[1].units_removed)
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
    gone = trial.removal(chosen)
    taken = {name: (left(gone, name), chosen.accuracy) for name in curve}
    result.add_figure(plots.cost_figure(curve, taken, least), f"{CURVE}.png")
    result.add_metrics(
        {
            "tolerance_dense_validation_accuracy": dense,
            "tolerance_validation_accuracy": chosen.accuracy,
            "tolerance_networks_tried": len(points),
        }
    )


def _log_layers(result: StageResult, curves: Mapping[str, Sequence[tuple[int, float]]], least: float) -> None:
    rows = [(layer, percentage, accuracy) for layer, curve in curves.items() for percentage, accuracy in curve]
    names = ("layer", "percentage", "validation_accuracy")
    result.add_table({name: [row[at] for row in rows] for at, name in enumerate(names)}, f"{SENSITIVITY}.json")
    result.add_figure(plots.sensitivity_figure(curves, least), f"{SENSITIVITY}.png")
