"""Accuracy against what is removed in the order of the scores."""

import logging
from collections.abc import Sequence

import training
from flows.adapters import artifacts, dataset_of, limits_of
from flows.cache import EarlierResult, OnPart, StageResult, unheard
from flows.config import Settings
from flows.stages.pruning.accuracy import evaluation_of
from flows.stages.pruning.remove import without
from training import Masks, Scores

LOG = logging.getLogger(__name__)
PERCENTAGES = tuple(range(0, 100, 10))
CURVE = "curve.json"
COLUMNS = ("test_accuracy", "validation_accuracy", "units_removed", "parameters_removed_share")


def order_masks(settings: Settings, importance: Scores, percentage: int) -> Masks:
    """Masks without this percentage of the least important units, rounded down, within the settings' limits.

    With selection=quantile of all units together, else of each layer's: scores of different layers need not compare.
    """
    rule = training.by_quantile if settings.selection == "quantile" else training.by_share
    return rule(importance, percentage / 100, limits_of(settings)).masks


def measure_curve(
    settings: Settings, scored: EarlierResult, trained: EarlierResult, *, on_part: OnPart = unheard
) -> StageResult:
    """Log the accuracy of a trained network as its units go by the scores of a run, as metrics by percentage."""
    result = StageResult(on_part)
    dataset = dataset_of(settings)
    network, importance = artifacts.logged_network(trained, settings, dataset), artifacts.logged_importance(scored)
    rows = []
    for percentage in PERCENTAGES:
        masks = order_masks(settings, importance, percentage)
        pruned = without(settings, network, masks, dataset)
        test, validation = (evaluation_of(settings, pruned, dataset, split) for split in ("test", "validation"))
        removal = training.removal(network, masks, dataset.test.images[:1])
        rows.append(
            [
                *(percentage, test.accuracy, validation.accuracy),
                *(float(removal.units_removed), removal.parameters_removed_share),
            ]
        )
        LOG.info("curve    %d %% removed: test accuracy %.2f %%", percentage, 100 * test.accuracy)
    _log(result, rows)
    return result


def repeat_curve(settings: Settings, measured: EarlierResult, *, on_part: OnPart = unheard) -> StageResult:
    """Log the curve that another run measured by the same scores."""
    result = StageResult(on_part)
    curve = load_curve(measured)
    _log(result, [[percentage, *each] for percentage, *each in zip(PERCENTAGES, *curve.values(), strict=True)])
    return result


def load_curve(run: EarlierResult) -> dict[str, list[float]]:
    """The columns of the curve that a run logged, a value per percentage."""
    rows = run.rows(CURVE)
    return {name: [float(row[name]) for row in rows] for name in COLUMNS}


def _log(result: StageResult, rows: Sequence[Sequence[float]]) -> None:
    for percentage, *values in rows:
        metrics = {f"curve.{name}": value for name, value in zip(COLUMNS, values, strict=True)}
        result.add_metrics(metrics, step=int(percentage))
    columns = zip(("percentage", *COLUMNS), zip(*rows, strict=True), strict=True)
    result.add_table(dict(columns), CURVE)
