"""The arms of a transfer: where each starts from, the mask it is held under, and its training."""

import logging

import numpy as np

import training
from flows import handover, tracking
from flows.settings import Settings
from flows.stages.fit import log_data, report_epochs
from flows.stages.pictures import log_mask_pictures
from flows.stages.rank import rule_values
from flows.tracking import Run
from flows.translation import dataset_of, fit_settings_of, network_of

LOG = logging.getLogger(__name__)
HEAD_TAG = "new_head"


def leave_initial_weights(settings: Settings, run: Run) -> None:
    """Leave the weights that every arm of a seed begins with."""
    handover.save_weights(run, network_of(settings, dataset_of(settings)))


def take_over_weights(settings: Settings, run: Run, source: Run, file: str) -> None:
    """Leave a file of weights of another run for the settings' data set.

    The output layer alone is drawn anew from the seed, where the classes of the two data sets differ in number.
    """
    before = handover.load_settings(source)
    known = dataset_of(before)
    network = handover.load_network(source, before, known, file)
    classes, dataset = len(known.classes), dataset_of(settings)
    if len(dataset.classes) != classes:
        head = training.find_head(network, dataset.train.images[:1])
        network = training.with_new_head(network, len(dataset.classes), dataset.train.images[:1], seed=settings.seed)
        change = f"{settings.dataset} has {len(dataset.classes)} classes, {before.dataset} {classes}"
        LOG.info("transfer %s: output layer %s is drawn anew, all other weights are kept", change, head)
        tracking.log_tags(run, {HEAD_TAG: head})
        tracking.log_note(run, f"{change}: output layer `{head}` is drawn anew from seed {settings.seed}.")
    handover.save_weights(run, network)


def carry_masks(settings: Settings, run: Run, found: Run) -> None:
    """Hold an arm under the masks that another run left."""
    _leave_masks(run, handover.load_masks(found))


def choose_masks(
    settings: Settings, run: Run, found: Run, ranked: Run, rule: str, draw: int = 0, scored: Run | None = None
) -> None:
    """Hold an arm under masks that remove as many units of every layer as those of run `found`.

    Kept are the highest values of a rule on the network of run `ranked` and the validation images: of `program` the
    importance that run `scored` left, of `random` the draw of that number.
    """
    masks = handover.load_masks(found)
    if rule == "program":
        assert scored is not None, "the program's values are those of a score run"
        values = handover.load_importance(scored)
    else:
        dataset = dataset_of(settings)
        network = handover.load_network(ranked, settings, dataset)
        scores = handover.load_scores(scored) if scored else {}
        known = {layer: scores.get(layer, mask.astype(np.float64)) for layer, mask in masks.items()}
        values = rule_values(settings, rule, network, dataset, known, draw + 1)[-1]
    _leave_masks(run, training.by_counts(values, training.counts(masks)))


def train_arm(settings: Settings, run: Run, start: Run, file: str, masked: bool, early: int = 0) -> None:
    """Train from a file of weights that run `start` left, under the masks that this run holds if `masked`.

    Leaves the weights, and those after epoch `early` (0: none).
    """
    dataset = dataset_of(settings)
    LOG.info("transfer on %s: %s, seed %d", settings.dataset, "masked" if masked else "dense", settings.seed)
    network = handover.load_network(start, settings, dataset, file)
    masks = handover.load_masks(run) if masked else None
    if masks is None:
        log_data(settings, run, network, dataset)
    else:
        log_mask_pictures(run, network, masks)
    fitted = training.fit(
        network,
        dataset.train,
        dataset.validation,
        fit_settings_of(settings, settings.epochs),
        masks=masks,
        callbacks=[report_epochs(run, "train", settings.epochs)],
        early=early,
    )
    handover.save_weights(run, fitted.model)
    if fitted.early is not None:
        handover.save_weights(run, fitted.early, handover.EARLY)


def _leave_masks(run: Run, masks: training.Masks) -> None:
    handover.save_masks(run, masks)
    removed = training.counts(masks)
    tracking.log_metrics(run, {f"units_removed.{layer}": count for layer, count in removed.items()})
    tracking.log_metrics(run, {"units_removed": sum(removed.values())})
    tracking.log_tags(run, {"masks": training.masks_digest(masks)[:16]})
