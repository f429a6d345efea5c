"""Pruning at initialisation: what SNIP removes from a network before it is trained, as much as a run removed after."""

import logging

from torch import nn

import training
from flows.adapters import artifacts, dataset_of, device_of, network_of, scoring_sets_of
from flows.cache import EarlierResult, OnPart, StageResult, unheard
from flows.config import Settings
from flows.stages.pruning.mask_pictures import log_mask_pictures
from flows.stages.pruning.prune import log_removal
from training import Dataset, Evidence, ScoringSet, Selection, Split

LOG = logging.getLogger(__name__)
RULE = "snip"


def choose_units(settings: Settings, pruned: EarlierResult, *, on_part: OnPart = unheard) -> StageResult:
    """Remove from every layer as many units as a run did: those of the smallest SNIP sum in the untrained network.

    Leaves masks, the entries of the state dict that they hold at 0, pictures, the images that were looked at, and both
    accounts.
    """
    result = StageResult(on_part)
    dataset = dataset_of(settings)
    network = network_of(settings, dataset)
    images = _draw(settings, result, network, dataset)
    removed = training.counts(artifacts.logged_masks(pruned))
    layers, device = tuple(removed), device_of(settings)
    with training.torch_threads(settings.threads):
        evidence = Evidence(network, images.images, images.labels, layers, settings.seed, device=device)
        [values] = training.draw_scores(RULE, evidence)
    masks = training.by_counts(values, removed)
    artifacts.log_masks(result, masks)
    artifacts.log_connections(result, training.removed_entries(network, masks, dataset.test.images[:1]))
    log_mask_pictures(result, network, masks)
    log_removal(result, training.removal(network, masks, dataset.test.images[:1]), Selection(masks, {}))
    return result


def choose_connections(settings: Settings, pruned: EarlierResult, *, on_part: OnPart = unheard) -> StageResult:
    """Remove as many single weights as a run's compacted network has parameters less: those of the smallest |w dL/dw|.

    Over all layers of the untrained network together; biases stay. Leaves the connections, the images that were looked
    at, and both accounts: shares of all parameters, and of all weights as published.
    """
    result = StageResult(on_part)
    dataset = dataset_of(settings)
    network = network_of(settings, dataset)
    images = _draw(settings, result, network, dataset)
    account = pruned.json("removal.json")
    before, after = (int(str(account[f"parameters_{when}"])) for when in ("before", "after"))
    with training.torch_threads(settings.threads):
        split = Split(images.images, images.labels)
        sensitivity = training.connection_sensitivity(network, split, device=device_of(settings))
    zeros = training.weakest_connections(sensitivity, before - after)
    artifacts.log_connections(result, zeros)
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
    result.add_metrics(found)
    for key, count in left.items():
        if not count:
            LOG.warning("snip     %s has lost all its connections", key)
    LOG.info("snip     %d of %d connections removed", before - after, weights)
    return result


def _draw(settings: Settings, result: StageResult, network: nn.Module, dataset: Dataset) -> ScoringSet:
    """Images of any that the network classifies: untrained, it is wrong on most."""
    [images] = scoring_sets_of(settings, network, dataset, correct_only=False)
    artifacts.log_scoring_set(result, images, 1)
    return images
