"""Robustness: scoring sets of three kinds, what each set alone comes to, and how far the sets of a kind agree."""

import logging
from collections.abc import Sequence
from statistics import fmean, pstdev

import numpy as np
from numpy.typing import NDArray

import training
from flows.adapters import account_of, aggregate_programs, artifacts, dataset_of, scoring_sets_of, select
from flows.cache import EarlierResult, OnPart, StageResult, unheard
from flows.config import Settings
from flows.reporting import Agreement, agreement_by_layer, plots
from flows.stages.pruning import evaluation_of, without
from training import Scores, ScoringSet

LOG = logging.getLogger(__name__)
KINDS = ("balanced", "unbalanced", "by_class")
BALANCED, UNBALANCED, BY_CLASS = KINDS
SETS = "sets.json"
AGREEMENT = "agreement.json"
SPREAD = ("units_removed", "test_accuracy", "validation_accuracy")


def draw_kind(settings: Settings, trained: EarlierResult, kind: str, *, on_part: OnPart = unheard) -> StageResult:
    """Draw and log the scoring sets of a kind; the numbers of those that make up each of `settings.scoring_sets`.

    - balanced: equally many images of every class;
    - unbalanced: as many images, whatever their class;
    - by_class: the balanced sets, each taken apart into one of every class, so that both see the same images.
    """
    result = StageResult(on_part)
    dataset = dataset_of(settings)
    network = artifacts.logged_network(trained, settings, dataset)
    sets = scoring_sets_of(settings, network, dataset, balanced=kind != UNBALANCED)
    classes = range(len(dataset.classes))
    parts = [[_of_class(each, label) for label in classes] if kind == BY_CLASS else [each] for each in sets]
    numbers = iter(range(1, len(sets) * len(parts[0]) + 1))
    groups = [[next(numbers) for _ in each] for each in parts]
    for part, group in zip(parts, groups, strict=True):
        for scoring_set, number in zip(part, group, strict=True):
            artifacts.log_scoring_set(result, scoring_set, number)
    artifacts.log_classes(result, dataset.classes)
    LOG.info("sample   %s: %d scoring sets of %d images", kind, len(sets) * len(parts[0]), len(parts[0][0]))
    result.returns(groups)
    return result


def measure_set(
    settings: Settings,
    trained: EarlierResult,
    solved: Sequence[EarlierResult],
    number: int,
    *,
    on_part: OnPart = unheard,
) -> StageResult:
    """What pruning by one scoring set alone comes to: units removed and accuracies; logged with the number as step.

    `solved` are the runs of its solutions, more than one where it was taken apart: their mean counts.
    """
    result = StageResult(on_part)
    dataset = dataset_of(settings)
    network, example = artifacts.logged_network(trained, settings, dataset), dataset.test.images[:1]
    ranked = aggregate_programs(solved)
    account = account_of(settings, network, {layer: len(values) for layer, values in ranked.scores.items()}, example)
    masks = select(settings, ranked.scores, ranked.importance, account).masks
    pruned = without(settings, network, masks, dataset)
    found = {
        "units_removed": float(training.removal(network, masks, example).units_removed),
        "test_accuracy": evaluation_of(settings, pruned, dataset).accuracy,
        "validation_accuracy": evaluation_of(settings, pruned, dataset, "validation").accuracy,
    }
    result.add_metrics({f"set.{name}": value for name, value in found.items()}, step=number)
    LOG.info("measure  set %d: %d removed, %.2f %%", number, found["units_removed"], 100 * found["test_accuracy"])
    result.returns(found)
    return result


def compare_sets(
    settings: Settings,
    groups: Sequence[Sequence[EarlierResult]],
    found: list[dict[str, float]],
    *,
    on_part: OnPart = unheard,
) -> StageResult:
    """Log how far the scores of all sets of a kind agree and how far their outcomes spread.

    `groups` are the solutions' runs of each set, `found` what each came to. Leaves the scores of every set.
    """
    result = StageResult(on_part)
    means = [aggregate_programs(group) for group in groups]
    scores = _stacked([each.scores for each in means])
    importance = _stacked([each.importance for each in means])
    artifacts.log_set_scores(result, scores)
    agreements = {"spearman": agreement_by_layer(scores), "spearman_importance": agreement_by_layer(importance)}
    for name, agreement in agreements.items():
        result.add_metrics(_agreement_metrics(name, agreement))
    result.add_metrics(_spread_metrics(found))
    result.add_table(_agreement_columns(agreements["spearman"], agreements["spearman_importance"]), AGREEMENT)
    sets: dict[str, list[object]] = {"set": list(range(1, len(found) + 1))}
    result.add_table(sets | {name: [each[name] for each in found] for name in SPREAD}, SETS)
    result.add_figure(plots.agreement_figure(agreements["spearman"]), "agreement.png")
    for layer, each in agreements["spearman"].items():
        if each.constant:
            LOG.info("agree    layer %s: constant in %d of %d sets, not counted", layer, each.constant, len(found))
        if each.mean is not None and each.smallest is not None:
            LOG.info("agree    layer %s: Spearman %.3f, least %.3f", layer, each.mean, each.smallest)
    return result


def _of_class(whole: ScoringSet, label: int) -> ScoringSet:
    members = whole.labels == label
    return ScoringSet(whole.images[members], whole.labels[members], whole.indices[members])


def _stacked(values: Sequence[Scores]) -> dict[str, NDArray[np.float64]]:
    return {layer: np.stack([each[layer] for each in values]) for layer in values[0]}


def _agreement_metrics(name: str, agreements: dict[str, Agreement]) -> dict[str, float]:
    figures_of: dict[str, float] = {}
    for layer, each in agreements.items():
        if each.mean is not None and each.smallest is not None:
            figures_of |= {f"{name}_mean.{layer}": each.mean, f"{name}_min.{layer}": each.smallest}
    return figures_of


def _spread_metrics(found: Sequence[dict[str, float]]) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for name in SPREAD:
        values = [each[name] for each in found]
        metrics |= {
            f"{name}_mean": fmean(values),
            f"{name}_stdev": pstdev(values),
            f"{name}_min": min(values),
            f"{name}_max": max(values),
        }
    return metrics


def _agreement_columns(scores: dict[str, Agreement], importance: dict[str, Agreement]) -> dict[str, list[object]]:
    return {
        "layer": list(scores),
        "spearman_mean": [each.mean for each in scores.values()],
        "spearman_min": [each.smallest for each in scores.values()],
        "importance_mean": [importance[layer].mean for layer in scores],
        "importance_min": [importance[layer].smallest for layer in scores],
        "pairs": [each.pairs for each in scores.values()],
        "constant_sets": [each.constant for each in scores.values()],
    }
