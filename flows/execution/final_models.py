"""Final networks as MLflow models, and as versions in the model registry."""

import logging
from collections.abc import Mapping
from importlib.metadata import version

from torch import nn

import training
from flows import tracking
from flows.adapters import artifacts, dataset_of, metadata_of
from flows.config import Settings, data_name, subject_of
from flows.errors import ArtifactError
from flows.tracking import Candidate, Run
from training import Dataset

LOG = logging.getLogger(__name__)
REQUIREMENTS = ("mlflow", "torch", "numpy")
MASKED, COMPACTED = "removed units are zeros in layers of full size", "compacted, without the removed units"
EXAMPLES = 2  # images; torch.export takes a batch of one for a constant


def publish_masked(settings: Settings, run: Run, parent: Run) -> None:
    """Log the network whose weights a run has, removed units at 0, as the model of the run above.

    It is registered if asked.
    """
    dataset = dataset_of(settings)
    network, masks = artifacts.logged_network(run, settings, dataset), artifacts.logged_masks(run)
    metadata = metadata_of(settings, dataset, masks, run.run_id)
    _publish(settings, run, parent, network, metadata, dataset, MASKED)


def publish_compacted(settings: Settings, run: Run, parent: Run, source: Run) -> None:
    """Log the compacted network of a run as the model of the run above, and register it if asked.

    `source` is the run whose network was compacted.
    """
    dataset = dataset_of(settings)
    metadata = metadata_of(settings, dataset, artifacts.logged_masks(source), source.run_id)
    network = artifacts.logged_compacted(run, settings, dataset)
    _publish(settings, run, parent, network, metadata, dataset, COMPACTED)


def _publish(
    settings: Settings,
    run: Run,
    parent: Run,
    network: nn.Module,
    metadata: Mapping[str, object],
    dataset: Dataset,
    kind: str,
) -> None:
    requirements = [f"{name}=={version(name)}" for name in REQUIREMENTS]
    try:
        address = tracking.log_network(parent, network, dataset.test.images[:EXAMPLES], requirements, metadata)
    except ArtifactError as error:
        if settings.register_as:
            raise
        LOG.warning("model    %s; its weights are among the artifacts", error)
        return
    tracking.show_model(run, address)
    LOG.info("model    final network logged as %s", address)
    if settings.register_as:
        figures = run.metrics() | (_sizes(network, dataset) if kind == MASKED else {})
        candidate = candidate_of(settings, address, kind, figures)
        line = tracking.register_network(parent, candidate, settings.champion_rule, settings.champion_tolerance)
        LOG.info("model    %s", line)


def candidate_of(settings: Settings, address: str, kind: str, figures: Mapping[str, float]) -> Candidate:
    """A network as the registry is told of it: its figures as tags, and a description in words."""
    tags = {
        tracking.VALIDATION: f"{figures['final_validation_accuracy']:.6f}",
        "test_accuracy": f"{figures['test_accuracy']:.6f}",
        "parameters": f"{figures['parameters']:.0f}",
        tracking.COST: f"{figures['multiply_adds']:.0f}",
        tracking.DATA: data_name(settings.dataset),
    }
    words = (
        f"{subject_of(settings)}: {kind}. Validation accuracy {100 * figures['final_validation_accuracy']:.2f} %, "
        f"{figures['parameters']:,.0f} parameters, {figures['multiply_adds']:,.0f} multiply-adds."
    )
    return Candidate(settings.register_as, address, words, tags)


def _sizes(network: nn.Module, dataset: Dataset) -> dict[str, float]:
    counted = training.removal(network, {}, dataset.test.images[:1])
    return {"parameters": counted.parameters_before, "multiply_adds": counted.multiply_adds_before}
