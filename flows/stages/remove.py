"""Removing units, and what may follow a removal: exchanging units, BatchNorm recalibration."""

from collections.abc import Mapping

import numpy as np
from torch import nn

import training
from flows.settings import Settings
from flows.translation import device_of, limits_of, tries_of
from training import Dataset, Exchange, Exchanger, Masks, Rework, ScoringSet


def all_kept(widths: Mapping[str, int]) -> Masks:
    """Masks that remove nothing."""
    return {layer: np.ones(units, np.bool_) for layer, units in widths.items()}


def without(settings: Settings, network: nn.Module, masks: Masks, dataset: Dataset) -> nn.Module:
    """The network without the removed units, recalibrated where that is asked for."""
    example = dataset.test.images[:1]
    pruned = training.prune(network, masks, example)
    rework = rework_of(settings, dataset)
    return pruned if rework is None else training.prune(rework(pruned, masks), masks, example)


def exchange_of(settings: Settings, images: ScoringSet) -> Exchanger | None:
    """Exchanging units where that lowers the cross-entropy on the scoring images; None where it is not asked for.

    A unit may come back for one of another layer where the selection asks for no more than a number of units in all.
    """
    tries, limits = tries_of(settings), limits_of(settings)
    if not tries:
        return None
    across = settings.selection == "quantile" and limits.floor == limits.round_to == 1

    def exchange(model: nn.Module, masks: Masks) -> Exchange:
        with training.torch_threads(settings.threads):
            return training.exchange(
                model,
                masks,
                images.images,
                images.labels,
                tries=tries,
                leave_alone=limits.left_alone(masks),
                across=across,
                device=device_of(settings),
            )

    return exchange


def rework_of(settings: Settings, dataset: Dataset) -> Rework | None:
    """BatchNorm recalibration on the training images; None where it is not asked for."""
    if not settings.recalibrate:
        return None

    def rework(network: nn.Module, _: Masks) -> nn.Module:
        with training.torch_threads(settings.threads):
            return training.recalibrate(network, dataset.train.images, device=device_of(settings))

    return rework
