"""Accuracies: of the network of a run, and of the rules that a pruned network is compared with."""

import logging
from collections.abc import Mapping, Sequence
from statistics import mean, stdev

from torch import nn

import training
from flows import figures, handover, tracking
from flows.settings import Settings
from flows.stages.rank import rule_values
from flows.stages.remove import without
from flows.tracking import Run
from flows.translation import dataset_of, device_of, rules_of
from training import Dataset, Evaluation

LOG = logging.getLogger(__name__)
RULES = "rules.json"
CHANCE = "random"


def evaluate_network(settings: Settings, run: Run, name: str) -> None:
    """Log accuracy and loss, on test and validation images, of the network whose weights a run logged."""
    dataset = dataset_of(settings)
    network = handover.load_network(run, settings, dataset)
    test = evaluation_of(settings, network, dataset)
    validation = evaluation_of(settings, network, dataset, split="validation")
    figures = {
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        "final_validation_accuracy": validation.accuracy,
        "final_validation_loss": validation.loss,
    }
    tracking.log_metrics(run, figures)
    accuracies = (100 * test.accuracy, 100 * validation.accuracy)
    LOG.info("evaluate %s network: test accuracy %.2f %%, validation accuracy %.2f %%", name, *accuracies)


def compare_masks(settings: Settings, run: Run, scored: Run, trained: Run) -> None:
    """Log the test accuracy of every rule to compare with, at a pruned run's counts, as metrics, table and picture."""
    dataset = dataset_of(settings)
    network = handover.load_network(trained, settings, dataset)
    removed, scores = training.counts(handover.load_masks(run)), handover.load_scores(scored)
    found = {"pruned": [tracking.logged_metrics(run)["test_accuracy"]]}
    for rule in rules_of(settings):
        drawn = rule_values(settings, rule, network, dataset, scores, settings.draws)
        found[rule] = [
            evaluation_of(
                settings, without(settings, network, training.by_counts(values, removed), dataset), dataset
            ).accuracy
            for values in drawn
        ]
        _log_rule(run, rule, found[rule])
    tracking.log_table(run, rule_columns(found), RULES)
    means = {rule: mean(accuracies) for rule, accuracies in found.items()}
    ordered = dict(sorted(means.items(), key=lambda each: each[1], reverse=True))
    tracking.log_figure(run, figures.accuracy_figure(ordered), "rules.png")


def rule_columns(found: Mapping[str, Sequence[float]]) -> dict[str, list[object]]:
    """Accuracies as a table with one row per rule: mean and standard deviation over its draws."""
    return {
        "rule": list(found),
        "accuracy": [mean(accuracies) for accuracies in found.values()],
        "stdev": [_spread(accuracies) for accuracies in found.values()],
        "draws": [len(accuracies) for accuracies in found.values()],
    }


def evaluation_of(settings: Settings, network: nn.Module, dataset: Dataset, split: str = "test") -> Evaluation:
    """Accuracy and loss of a network on the test or the validation images."""
    images = dataset.test if split == "test" else dataset.validation
    with training.torch_threads(settings.threads):
        return training.evaluate(network, images, batch_size=settings.batch_size, device=device_of(settings))


def _log_rule(run: Run, rule: str, accuracies: Sequence[float]) -> None:
    for draw, accuracy in enumerate(accuracies):
        tracking.log_metrics(run, {f"{rule}_accuracy": accuracy}, step=draw)
    if rule != CHANCE:
        LOG.info("evaluate same counts: %s %.2f %%", rule, 100 * accuracies[0])
        return
    spread = {f"{rule}_accuracy_mean": mean(accuracies), f"{rule}_accuracy_stdev": _spread(accuracies)}
    tracking.log_metrics(run, spread)
    words = (rule, 100 * mean(accuracies), len(accuracies), 100 * _spread(accuracies))
    LOG.info("evaluate same counts: %s %.2f %% (mean of %d, standard deviation %.2f)", *words)


def _spread(accuracies: Sequence[float]) -> float:
    return stdev(accuracies) if len(accuracies) > 1 else 0.0
