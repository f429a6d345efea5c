"""Refits as they are logged: a table of every layer's error before and after, accuracies, seconds, and a sentence."""

import logging
from collections.abc import Mapping, Sequence

from flows.cache import StageResult
from flows.config import Settings
from flows.stages.pruning.accuracy import evaluation_of
from flows.stages.pruning.remove import Removed
from training import Dataset

LOG = logging.getLogger(__name__)
REFIT = "refit.json"
BEFORE, AFTER, KEPT = "validation_accuracy_before_refit", "validation_accuracy_after_refit", "refit_kept"
SECONDS, IMAGES, UNREFITTED = "refit_seconds", "refit_images_seen", "test_accuracy_without_refit"


def log_refit(settings: Settings, result: StageResult, removals: Sequence[Removed], dataset: Dataset) -> None:
    """Log what the refits of a run came to, one of each removal: the table of all, the figures of the last."""
    if not removals or removals[-1].refitted is None:
        return
    result.add_table(refit_columns(removals), REFIT)
    last = removals[-1]
    without_refit = {UNREFITTED: evaluation_of(settings, last.plain, dataset).accuracy}
    result.add_metrics({**refit_figures(last), IMAGES: last.images, **without_refit})


def refit_figures(removed: Removed) -> dict[str, float]:
    """Accuracies on the validation images without and with the refit, whether it is kept, its seconds."""
    if removed.refitted is None:
        return {}
    before, after = removed.accuracies
    return {BEFORE: before, AFTER: after, KEPT: float(removed.kept), SECONDS: removed.refitted.seconds}


def refit_columns(removals: Sequence[Removed]) -> dict[str, list[object]]:
    """A row for every layer of every refit: its error as a part of its outputs' variance, the ridge, or why it is left.

    A layer that is left as it was has no figures.
    """
    names = ("error_before", "error_after", "ridge", "columns", "readings")
    rows: list[list[object]] = []
    for step, removed in enumerate(removals, start=1):
        if removed.refitted is None:
            continue
        found = removed.refitted
        rows += [[layer, *(getattr(each, name) for name in names), "", step] for layer, each in found.layers.items()]
        rows += [[layer, *(None for _ in names), reason, step] for layer, reason in found.left.items()]
    columns = ("layer", *names, "left_because", "step")
    return {name: [row[place] for row in rows] for place, name in enumerate(columns)}


def refit_in_words(metrics: Mapping[str, float]) -> str:
    """What a refit came to, out of a run's metrics; empty where there was none."""
    if AFTER not in metrics:
        return ""
    verdict = "" if metrics[KEPT] else "; it is not kept, for that is less"
    return (
        f"Refit to {metrics[IMAGES]:.0f} images without labels, {metrics[SECONDS]:.1f} s: validation accuracy "
        f"{100 * metrics[BEFORE]:.2f} % before, {100 * metrics[AFTER]:.2f} % after{verdict}."
    )


def say_refit(removed: Removed, available: int) -> None:
    """Say in log lines what a refit came to, which layers it left, and where the ridge decides.

    `available` is how many training images there are.
    """
    if removed.fault:
        LOG.warning("prune    no refit: %s", removed.fault)
    if removed.refitted is None:
        return
    words = refit_in_words({**refit_figures(removed), IMAGES: removed.images})
    LOG.info("prune    %s", f"r{words[1:-1]}")
    for layer, reason in removed.refitted.left.items():
        LOG.warning("prune    refit leaves %s as it is: %s", layer, reason)
    more = removed.images < available
    remedy = "more refit_images help" if more else f"all {available} training images are used"
    for layer, each in removed.refitted.layers.items():
        if each.readings < each.columns:
            LOG.warning(
                "prune    refit of %s: %d readings for %d inputs, the ridge decides the rest; %s",
                *(layer, each.readings, each.columns, remedy),
            )
