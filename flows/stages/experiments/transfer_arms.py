"""The arms of a transfer: where each starts from, the mask it is held under, and its training."""

import logging

import numpy as np

import training
from flows.adapters import artifacts, dataset_of, fit_settings_of, network_of, vouched
from flows.cache import EarlierResult, OnPart, StageResult, unheard
from flows.config import Settings
from flows.stages.fitting import log_data, report_epochs
from flows.stages.pruning import log_mask_pictures
from flows.stages.scoring import rule_values

LOG = logging.getLogger(__name__)
HEAD_TAG = "new_head"


def leave_initial_weights(settings: Settings, *, on_part: OnPart = unheard) -> StageResult:
    """Leave the weights that every arm of a seed begins with."""
    result = StageResult(on_part)
    artifacts.log_weights(result, network_of(settings, dataset_of(settings)))
    return result


def take_over_weights(
    settings: Settings, source: EarlierResult, file: str, *, on_part: OnPart = unheard
) -> StageResult:
    """Leave a file of weights of another run for the settings' data set.

    The output layer alone is drawn anew from the seed, where the classes of the two data sets differ in number.
    """
    result = StageResult(on_part)
    before = vouched(artifacts.logged_settings(source), settings)
    known = dataset_of(before)
    network = artifacts.logged_network(source, before, known, file)
    classes, dataset = len(known.classes), dataset_of(settings)
    if len(dataset.classes) != classes:
        head = training.find_head(network, dataset.train.images[:1])
        network = training.with_new_head(network, len(dataset.classes), dataset.train.images[:1], seed=settings.seed)
        change = f"{settings.dataset} has {len(dataset.classes)} classes, {before.dataset} {classes}"
        LOG.info("transfer %s: output layer %s is drawn anew, all other weights are kept", change, head)
        result.add_tags({HEAD_TAG: head})
        result.add_note(f"{change}: output layer `{head}` is drawn anew from seed {settings.seed}.")
    artifacts.log_weights(result, network)
    return result


def carry_masks(settings: Settings, found: EarlierResult, *, on_part: OnPart = unheard) -> StageResult:
    """Hold an arm under the masks that another run left."""
    result = StageResult(on_part)
    _leave_masks(result, artifacts.logged_masks(found))
    return result


def choose_masks(
    settings: Settings,
    found: EarlierResult,
    ranked: EarlierResult,
    rule: str,
    draw: int = 0,
    scored: EarlierResult | None = None,
    *,
    on_part: OnPart = unheard,
) -> StageResult:
    """Hold an arm under masks that remove as many units of every layer as those of run `found`.

    Kept are the highest values of a rule on the network of run `ranked` and the validation images: of `program` the
    importance that run `scored` left, of `random` the draw of that number.
    """
    result = StageResult(on_part)
    masks = artifacts.logged_masks(found)
    if rule == "program":
        assert scored is not None, "the program's values are those of a score run"
        values = artifacts.logged_importance(scored)
    else:
        dataset = dataset_of(settings)
        network = artifacts.logged_network(ranked, settings, dataset)
        scores = artifacts.logged_scores(scored) if scored else {}
        known = {layer: scores.get(layer, mask.astype(np.float64)) for layer, mask in masks.items()}
        values = rule_values(settings, rule, network, dataset, known, draw + 1)[-1]
    _leave_masks(result, training.by_counts(values, training.counts(masks)))
    return result


def train_arm(
    settings: Settings,
    run: EarlierResult,
    start: EarlierResult,
    file: str,
    masked: bool,
    early: int = 0,
    *,
    on_part: OnPart = unheard,
) -> StageResult:
    """Train from a file of weights that run `start` left, under the masks that this run holds if `masked`.

    Leaves the weights, and those after epoch `early` (0: none).
    """
    result = StageResult(on_part)
    dataset = dataset_of(settings)
    LOG.info("transfer on %s: %s, seed %d", settings.dataset, "masked" if masked else "dense", settings.seed)
    network = artifacts.logged_network(start, settings, dataset, file)
    masks = artifacts.logged_masks(run) if masked else None
    if masks is None:
        log_data(settings, result, network, dataset)
    else:
        log_mask_pictures(result, network, masks)
    fitted = training.fit(
        network,
        dataset.train,
        dataset.validation,
        fit_settings_of(settings, settings.epochs),
        masks=masks,
        callbacks=[report_epochs(result, "train", settings.epochs)],
        early=early,
    )
    artifacts.log_weights(result, fitted.model)
    if fitted.early is not None:
        artifacts.log_weights(result, fitted.early, artifacts.EARLY)
    return result


def _leave_masks(result: StageResult, masks: training.Masks) -> None:
    artifacts.log_masks(result, masks)
    removed = training.counts(masks)
    result.add_metrics({f"units_removed.{layer}": count for layer, count in removed.items()})
    result.add_metrics({"units_removed": sum(removed.values())})
    result.add_tags({"masks": training.masks_digest(masks)[:16]})
