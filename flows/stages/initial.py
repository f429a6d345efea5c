"""Pruning at initialisation: what SNIP removes from a network before it is trained, as much as a run removed after."""

import logging

from torch import nn

import training
from flows import handover, tracking
from flows.settings import Settings
from flows.stages.pictures import log_mask_pictures
from flows.stages.prune import log_removal
from flows.tracking import Run
from flows.translation import dataset_of, device_of, network_of, scoring_sets_of
from training import Dataset, Evidence, ScoringSet, Selection, Split

LOG = logging.getLogger(__name__)
RULE = "snip"


def choose_units(settings: Settings, run: Run, pruned: Run) -> None:
    """Remove from every layer as many units as a run did: those of the smallest SNIP sum in the untrained network.

    Leaves masks, the entries of the state dict that they hold at 0, pictures, the images that were looked at, and both
    accounts.
    """
    dataset = dataset_of(settings)
    network = network_of(settings, dataset)
    images = _draw(settings, run, network, dataset)
    removed = training.counts(handover.load_masks(pruned))
    layers, device = tuple(removed), device_of(settings)
    with training.torch_threads(settings.threads):
        evidence = Evidence(network, images.images, images.labels, layers, settings.seed, device=device)
        [values] = training.draw_scores(RULE, evidence)
    masks = training.by_counts(values, removed)
    handover.save_masks(run, masks)
    handover.save_connections(run, training.removed_entries(network, masks, dataset.test.images[:1]))
    log_mask_pictures(run, network, masks)
    log_removal(run, training.removal(network, masks, dataset.test.images[:1]), Selection(masks, {}))


def choose_connections(settings: Settings, run: Run, pruned: Run) -> None:
    """Remove as many single weights as a run's compacted network has parameters less: those of the smallest |w dL/dw|.

    Over all layers of the untrained network together; biases stay. Leaves the connections, the images that were looked
    at, and both accounts: shares of all parameters, and of all weights as published.
    """
    dataset = dataset_of(settings)
    network = network_of(settings, dataset)
    images = _draw(settings, run, network, dataset)
    account = tracking.logged_json(pruned, "removal.json")
    before, after = (int(str(account[f"parameters_{when}"])) for when in ("before", "after"))
    with training.torch_threads(settings.threads):
        split = Split(images.images, images.labels)
        sensitivity = training.connection_sensitivity(network, split, device=device_of(settings))
    zeros = training.weakest_connections(sensitivity, before - after)
    handover.save_connections(run, zeros)
    weights = sum(values.size for values in sensitivity.values())
    left = {
        key: values.size - int(zeros[key].sum()) if key in zeros else values.size for key, values in sensitivity.items()
    }
    found = {
        "connections_removed": float(before - after),
        "parameters_removed_share": (before - after) / before,
        "published_parameters_removed_share": (before - after) / weights,
        **{f"connections_left.{key}": float(count) for key, count in left.items()},
    }
    tracking.log_metrics(run, found)
    for key, count in left.items():
        if not count:
            LOG.warning("snip     %s has lost all its connections", key)
    LOG.info("snip     %d of %d connections removed", before - after, weights)


def _draw(settings: Settings, run: Run, network: nn.Module, dataset: Dataset) -> ScoringSet:
    """Images of any that the network classifies: untrained, it is wrong on most."""
    [images] = scoring_sets_of(settings, network, dataset, correct_only=False)
    handover.save_scoring_set(run, images, 1)
    return images
