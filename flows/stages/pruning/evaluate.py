"""Accuracies: of the network of a run, and of the rules that a pruned network is compared with."""

import logging
from collections.abc import Mapping, Sequence
from statistics import mean, stdev

import training
from flows.adapters import artifacts, dataset_of, rules_of
from flows.cache import EarlierResult, OnPart, StageResult, unheard
from flows.config import Settings
from flows.reporting import figures
from flows.stages.pruning.accuracy import evaluation_of
from flows.stages.pruning.refit_log import KEPT
from flows.stages.pruning.remove import remove_units
from flows.stages.scoring import rule_values

LOG = logging.getLogger(__name__)
RULES = "rules.json"
CHANCE = "random"


def evaluate_network(settings: Settings, run: EarlierResult, name: str, *, on_part: OnPart = unheard) -> StageResult:
    """Log accuracy and loss, on test and validation images, of the network whose weights a run logged."""
    result = StageResult(on_part)
    dataset = dataset_of(settings)
    network = artifacts.logged_network(run, settings, dataset)
    test = evaluation_of(settings, network, dataset)
    validation = evaluation_of(settings, network, dataset, split="validation")
    figures = {
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        "final_validation_accuracy": validation.accuracy,
        "final_validation_loss": validation.loss,
    }
    result.add_metrics(figures)
    accuracies = (100 * test.accuracy, 100 * validation.accuracy)
    LOG.info("evaluate %s network: test accuracy %.2f %%, validation accuracy %.2f %%", name, *accuracies)
    return result


def compare_masks(
    settings: Settings, run: EarlierResult, scored: EarlierResult, trained: EarlierResult, *, on_part: OnPart = unheard
) -> StageResult:
    """Log the test accuracy of every rule to compare with, at a pruned run's counts, as metrics, table and picture.

    Whatever follows the removal follows theirs: refit, and BatchNorm recalibration.
    """
    result = StageResult(on_part)
    dataset = dataset_of(settings)
    network = artifacts.logged_network(trained, settings, dataset)
    removed, scores = training.counts(artifacts.logged_masks(run)), artifacts.logged_scores(scored)
    pruned = run.metrics()
    found, refitted = {"pruned": [pruned["test_accuracy"]]}, {"pruned": int(pruned.get(KEPT, 0))}
    rules = rules_of(settings)
    if masks := sum(settings.draws if rule == CHANCE else 1 for rule in rules):
        refit = "" if settings.refit == "false" else ", each refitted; compare=none leaves them out"
        LOG.info("evaluate %d masks to compare with at the same counts (%s)%s", masks, ", ".join(rules), refit)
    for rule in rules:
        drawn = rule_values(settings, rule, network, dataset, scores, settings.draws)
        without = [remove_units(settings, network, training.by_counts(values, removed), dataset) for values in drawn]
        found[rule] = [evaluation_of(settings, each.network, dataset).accuracy for each in without]
        refitted[rule] = sum(each.kept for each in without)
        _log_rule(result, rule, found[rule])
    result.add_table({**rule_columns(found), "refitted": list(refitted.values())}, RULES)
    means = {rule: mean(accuracies) for rule, accuracies in found.items()}
    ordered = dict(sorted(means.items(), key=lambda each: each[1], reverse=True))
    result.add_figure(figures.accuracy_figure(ordered), "rules.png")
    return result


def rule_columns(found: Mapping[str, Sequence[float]]) -> dict[str, list[object]]:
    """Accuracies as a table with one row per rule: mean and standard deviation over its draws."""
    return {
        "rule": list(found),
        "accuracy": [mean(accuracies) for accuracies in found.values()],
        "stdev": [_spread(accuracies) for accuracies in found.values()],
        "draws": [len(accuracies) for accuracies in found.values()],
    }


def _log_rule(result: StageResult, rule: str, accuracies: Sequence[float]) -> None:
    for draw, accuracy in enumerate(accuracies):
        result.add_metrics({f"{rule}_accuracy": accuracy}, step=draw)
    if rule != CHANCE:
        LOG.info("evaluate same counts: %s %.2f %%", rule, 100 * accuracies[0])
        return
    spread = {f"{rule}_accuracy_mean": mean(accuracies), f"{rule}_accuracy_stdev": _spread(accuracies)}
    result.add_metrics(spread)
    words = (rule, 100 * mean(accuracies), len(accuracies), 100 * _spread(accuracies))
    LOG.info("evaluate same counts: %s %.2f %% (mean of %d, standard deviation %.2f)", *words)


def _spread(accuracies: Sequence[float]) -> float:
    return stdev(accuracies) if len(accuracies) > 1 else 0.0
