"""Pruning: masks from scores, the network without the removed units, and what that saved."""

import logging
from dataclasses import asdict

import numpy as np
from torch import nn

import training
from flows import figures, handover, tracking
from flows.settings import Settings
from flows.tracking import Run
from flows.translation import dataset_of
from training import Masks, Removal, Selection

LOG = logging.getLogger(__name__)


def prune_network(settings: Settings, run: Run, scored: Run, trained: Run) -> None:
    """Remove the units whose score is below the threshold; leaves masks, weights, pictures and both accounts."""
    dataset = dataset_of(settings)
    network = handover.load_network(trained, settings, dataset)
    scores = handover.load_scores(scored)
    selection = training.by_threshold(scores, settings.threshold)
    example = dataset.test.images[:1]
    handover.save_masks(run, selection.masks)
    handover.save_weights(run, training.prune(network, selection.masks, example))
    tracking.log_table(run, figures.unit_columns(scores, selection.masks), "scores.json")
    tracking.log_figure(run, figures.score_histogram(scores, settings.threshold), "scores.png")
    log_mask_pictures(run, network, selection.masks)
    removal = training.removal(network, selection.masks, example)
    _log_removal(run, removal, selection)
    _say_what_was_removed(settings, removal, selection)


def log_mask_pictures(run: Run, network: nn.Module, masks: Masks) -> None:
    """Log one picture per layer: kernels for a convolution in one or two dimensions, squares for a linear layer."""
    modules = dict(network.named_modules())
    for layer, mask in masks.items():
        module = modules[layer]
        if isinstance(module, nn.Conv1d | nn.Conv2d):
            weights = module.weight.detach().numpy().astype(np.float32)
            # A kernel in one dimension is one of height 1.
            picture = figures.kernel_picture(mask, weights[:, :, None] if weights.ndim == 3 else weights)
        else:
            picture = figures.mask_picture(mask)
        tracking.log_picture(run, picture, f"mask {layer}")


def _log_removal(run: Run, removal: Removal, selection: Selection) -> None:
    removed = training.counts(selection.masks)
    tracking.log_metrics(
        run,
        {
            "units_removed": removal.units_removed,
            "units_removed_share": removal.units_removed_share,
            "published_parameters_removed_share": removal.published_parameters_removed,
            "parameters_removed_share": removal.parameters_removed_share,
            "multiply_adds_removed_share": removal.multiply_adds_removed_share,
            **{f"units_removed.{layer}": count for layer, count in removed.items()},
        },
    )
    tracking.log_json(run, {**asdict(removal), "kept_by_floor": selection.kept_by_floor}, "removal.json")
    tracking.log_tags(run, {"masks": training.masks_digest(selection.masks)[:16]})


def _say_what_was_removed(settings: Settings, removal: Removal, selection: Selection) -> None:
    if not removal.units_removed:
        LOG.warning("prune    no score is below threshold %g: nothing is removed", settings.threshold)
    for layer, count in selection.kept_by_floor.items():
        LOG.warning("prune    %s: all its scores are below the threshold, %d unit stays all the same", layer, count)
    LOG.info(
        "prune    %d of %d units removed (%.1f %%): %.1f %% of the parameters (%.1f %% as published), "
        "%.1f %% of the multiply-adds",
        *(removal.units_removed, removal.units_total, 100 * removal.units_removed_share),
        *(100 * removal.parameters_removed_share, 100 * removal.published_parameters_removed),
        100 * removal.multiply_adds_removed_share,
    )
