"""Accuracies: of the network of a run, and of the controls that a pruned network is compared with."""

import logging
from statistics import mean, stdev

from torch import nn

import training
from flows import handover, tracking
from flows.settings import Settings
from flows.tracking import Run
from flows.translation import dataset_of, device_of
from training import Dataset, Evaluation, Evidence, Masks

LOG = logging.getLogger(__name__)


def evaluate_network(settings: Settings, run: Run, name: str) -> None:
    """Log accuracy and loss, on test and validation images, of the network whose weights a run logged."""
    dataset = dataset_of(settings)
    network = handover.load_network(run, settings, dataset)
    test = _evaluate(settings, network, dataset)
    validation = _evaluate(settings, network, dataset, split="validation")
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
    """Log test accuracies under random masks and under the mask of the highest scores, at a pruned run's counts."""
    dataset = dataset_of(settings)
    network = handover.load_network(trained, settings, dataset)
    masks, scores = handover.load_masks(run), handover.load_scores(scored)
    evidence = Evidence(
        network, dataset.validation.images, dataset.validation.labels, tuple(masks), settings.seed, scores
    )
    removed = training.counts(masks)
    random, (critical,) = (
        [
            _accuracy_under(settings, network, dataset, training.by_counts(drawn, removed))
            for drawn in training.draw_scores(rule, evidence, settings.draws)
        ]
        for rule in ("random", "critical")
    )
    for draw, accuracy in enumerate(random):
        tracking.log_metrics(run, {"random_accuracy": accuracy}, step=draw)
    spread = stdev(random) if len(random) > 1 else 0.0
    figures = {"random_accuracy_mean": mean(random), "random_accuracy_stdev": spread, "critical_accuracy": critical}
    tracking.log_metrics(run, figures)
    LOG.info(
        "evaluate same counts: random masks %.2f %% (mean of %d, standard deviation %.2f), critical mask %.2f %%",
        *(100 * mean(random), len(random), 100 * spread, 100 * critical),
    )


def _accuracy_under(settings: Settings, network: nn.Module, dataset: Dataset, masks: Masks) -> float:
    pruned = training.prune(network, masks, dataset.test.images[:1])
    return _evaluate(settings, pruned, dataset).accuracy


def _evaluate(settings: Settings, network: nn.Module, dataset: Dataset, split: str = "test") -> Evaluation:
    images = dataset.test if split == "test" else dataset.validation
    with training.torch_threads(settings.threads):
        return training.evaluate(network, images, batch_size=settings.batch_size, device=device_of(settings))
