"""Pruning in steps: what each of them did, as metrics, as a file and as pictures, and what was not proved optimal."""

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from torch import nn

import training
from flows.adapters import StepPlan
from flows.cache import EarlierResult, StageResult
from flows.config import Settings
from flows.stages.pruning.accuracy import evaluation_of
from flows.stages.pruning.mask_pictures import log_mask_pictures
from flows.stages.pruning.refit_log import refit_figures, say_refit
from flows.stages.pruning.remove import Removed
from flows.stages.scoring import STATUS_TAG, statuses
from formulation import Certificate
from training import Dataset, Evaluation, Masks, Scores, Step

LOG = logging.getLogger(__name__)
STEPS = "steps"
STEP_FILE = STEPS + "/step_{:03}.json"
OPTIMAL = "optimal"
Certificates = tuple[Certificate, ...]  # of one step: of its program, or of those of its blocks
# What a step's figures are where it has several programs.
COMBINED: Mapping[str, Callable[[Sequence[float]], float]] = {
    "objective": sum,
    "gap": max,
    "cross_entropy": fmean,
    "sparsity": sum,
    "rounds": sum,
    "seconds": sum,
}
SCORED, NOT_OPTIMAL, LARGEST = "steps_scored", "steps_not_optimal", "steps_largest_gap"


@dataclass(frozen=True, eq=False)
class Followed:
    """The last step, what the first one saw of each unit, and the step at which each unit went (0: none), by layer."""

    last: Step
    values: Scores
    times: dict[str, NDArray[np.int64]]


def follow(
    settings: Settings,
    result: StageResult,
    steps: Iterable[Step],
    plan: StepPlan,
    network: nn.Module,
    dataset: Dataset,
    certificates: Sequence[Certificates],
    removals: Sequence[Removed] = (),
) -> Followed:
    """Go through a schedule of at least one step and log every step.

    `certificates` is where the ranking leaves what its programs proved, for every step, `removals` where the schedule
    leaves what each refit came to; `network` is the whole one, for the pictures.
    """
    times: dict[str, NDArray[np.int64]] = {}
    values: Scores = {}
    for step in steps:
        if not times:
            # The UI's slider stands at 0 when it opens.
            log_mask_pictures(result, network, {layer: np.ones_like(mask) for layer, mask in step.masks.items()})
        values = values or step.scores or {}
        proved = certificates[-1] if certificates and step.scores is not None else ()
        validation = evaluation_of(settings, step.network, dataset, "validation")
        target = plan.targets[min(step.index, len(plan.targets)) - 1]
        result.add_metrics(_figures(step, target, proved, validation), step=step.index)
        if removals:
            refit = {f"step.{name}": value for name, value in refit_figures(removals[-1]).items()}
            result.add_metrics(refit, step=step.index)
            say_refit(removals[-1], len(dataset.train))
        result.add_json(_record(step, target, proved), STEP_FILE.format(step.index))
        log_mask_pictures(result, network, step.masks, step.index)
        _say(step, len(plan.shares), proved, validation)
        for layer, mask in step.masks.items():
            before = times.get(layer, np.zeros(len(mask), np.int64))
            times[layer] = np.where(mask, 0, np.where(before > 0, before, step.index))
    _log_statuses(result, certificates)
    return Followed(step, values, times)


def masks_by_step(run: EarlierResult, widths: Mapping[str, int]) -> dict[int, Masks]:
    """The masks that a run of pruning in steps logged, by step, 0 before any; `widths` are the units of every layer."""
    with run.opened(STEPS) as folder:
        records = [json.loads(path.read_text()) for path in sorted(folder.iterdir())]
    whole = {layer: np.ones(units, np.bool_) for layer, units in widths.items()}
    return {0: whole} | {
        record["step"]: {layer: ~np.isin(np.arange(units), record["removed"][layer]) for layer, units in widths.items()}
        for record in records
    }


def certificates_in_words(tags: Mapping[str, str], metrics: Mapping[str, float]) -> str:
    """Which steps were not solved to the gap asked for, out of a run's tags and metrics; empty where all were."""
    if not metrics.get(NOT_OPTIMAL):
        return ""
    how = ", ".join(status for status in tags[STATUS_TAG].split(", ") if status != OPTIMAL)
    return (
        f"Steps whose scores are not proved optimal within the gap asked for: {metrics[NOT_OPTIMAL]:.0f} of "
        f"{metrics[SCORED]:.0f} ({how}), with a gap of up to {metrics[LARGEST]:.2g}."
    )


def _log_statuses(result: StageResult, certificates: Sequence[Certificates]) -> None:
    if not certificates:
        return
    missed = [step for step in certificates if any(each.status != OPTIMAL for each in step)]
    every = [each for step in certificates for each in step]
    tags = {STATUS_TAG: statuses(every)}
    metrics = {
        SCORED: float(len(certificates)),
        NOT_OPTIMAL: float(len(missed)),
        LARGEST: max(each.gap for each in every),
    }
    result.add_tags(tags)
    result.add_metrics(metrics)
    if words := certificates_in_words(tags, metrics):
        result.add_note(words)
        LOG.warning("prune    %s", words)


def _figures(step: Step, target: float, proved: Certificates, validation: Evaluation) -> dict[str, float]:
    removed = training.counts(step.masks)
    found = {
        "target": target,
        "units_removed": sum(removed.values()),
        "units_removed_share": step.removed_share,
        "validation_accuracy": validation.accuracy,
        "validation_loss": validation.loss,
        **{f"units_removed.{layer}": count for layer, count in removed.items()},
    }
    if step.swapped is not None:
        found |= {
            "exchanges": sum(step.swapped.swaps.values()),
            "loss_before_exchange": step.swapped.loss_before,
            "loss_after_exchange": step.swapped.loss_after,
        }
    if proved:
        found |= {name: combine([getattr(each, name) for each in proved]) for name, combine in COMBINED.items()}
    return {f"step.{name}": float(value) for name, value in found.items()}


def _record(step: Step, target: float, proved: Certificates) -> dict[str, object]:
    return {
        "step": step.index,
        "target": target,
        "removed": {layer: np.flatnonzero(~mask).tolist() for layer, mask in step.masks.items()},
        "returned": {layer: list(units) for layer, units in step.returned.items()},
        "exchanges": None if step.swapped is None else step.swapped.swaps,
        "certificates": [each.to_dict() for each in proved],
    }


def _say(step: Step, steps: int, proved: Certificates, validation: Evaluation) -> None:
    gone, units = sum(training.counts(step.masks).values()), sum(map(len, step.masks.values()))
    parts = [f"{gone} of {units} units gone"]
    if proved:
        told = {name: combine([getattr(each, name) for each in proved]) for name, combine in COMBINED.items()}
        programs = f" of {len(proved)} programs" if len(proved) > 1 else ""
        words = f"objective{programs} {told['objective']:.6f}, gap {told['gap']:.1e}"
        parts.append(f"{words}, cross-entropy {told['cross_entropy']:.4f}")
        for each in proved:
            if each.status != OPTIMAL:
                LOG.warning("prune    step %d: %s, %s", step.index, each.status, "; ".join(each.notes))
    if step.swapped is not None:
        parts.append(f"{sum(step.swapped.swaps.values())} swaps")
    parts.append(f"validation accuracy {100 * validation.accuracy:.2f} %")
    if step.scores is None:
        LOG.info("prune    trained on after the last removal: %s", ", ".join(parts))
    else:
        LOG.info("prune    step %d of %d: %s", step.index, steps, ", ".join(parts))
