"""Removing units, and what may follow a removal: refit, swapping units, BatchNorm recalibration."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import nn

import training
from flows.adapters import device_of, limits_of, refit_images_of, swap_tries_of
from flows.config import Settings
from flows.stages.pruning.accuracy import evaluation_of
from training import (
    Dataset,
    Evidence,
    Masks,
    RefitError,
    Refitted,
    RefittedChoice,
    RefittedLoss,
    Rework,
    ScoringSet,
    SelectionError,
    SwapResult,
    SwapSearch,
)

LOG = logging.getLogger(__name__)
OBS = ("fisher_obs", "structured_obs")


@dataclass(frozen=True, eq=False)
class Removed:
    """A network without units, and what its refit came to.

    Attributes:
        network: refitted where that is kept; recalibrated where that is asked for and, after a refit, the validation
            images gain by it.
        plain: the same without refit.
        refitted: what the refit did to each layer; None where there was none.
        accuracies: on the validation images, without the refit and with it; 0 where there was none.
        kept: whether the refit is kept.
        images: how many the refit saw.
        fault: why a refit that was wanted could not be made; empty where there is nothing to say.
    """

    network: nn.Module
    plain: nn.Module
    refitted: Refitted | None = None
    accuracies: tuple[float, float] = (0.0, 0.0)
    kept: bool = False
    images: int = 0
    fault: str = ""


@dataclass(frozen=True, eq=False)
class RemovalFromDense:
    """What follows every removal of a schedule whose survivors are refitted: the network is made from the dense one.

    By the masks alone: survivors are fitted to what the dense network emits, and a unit that comes back has the weights
    that it has there, whatever the steps before have made of either.

    Attributes:
        done: what each removal came to.
    """

    settings: Settings
    dense: nn.Module
    dataset: Dataset
    done: list[Removed] = field(default_factory=list)

    def __call__(self, _: nn.Module, masks: Masks) -> nn.Module:
        self.done.append(remove_units(self.settings, self.dense, masks, self.dataset))
        return self.done[-1].network


def all_kept(widths: Mapping[str, int]) -> Masks:
    """Masks that remove nothing."""
    return {layer: np.ones(units, np.bool_) for layer, units in widths.items()}


def without(settings: Settings, network: nn.Module, masks: Masks, dataset: Dataset) -> nn.Module:
    """The network without the removed units, refitted and recalibrated where that is asked for."""
    return remove_units(settings, network, masks, dataset).network


def remove_units(settings: Settings, network: nn.Module, masks: Masks, dataset: Dataset) -> Removed:
    """The network without the removed units, and the layers behind them fitted anew.

    With refit=auto that is kept where the accuracy on the validation images is at least that without, and left out
    where it cannot be done. Raises RefitError with refit=true, and whatever else a removal raises.
    """
    plain = _recalibrated(settings, training.prune(network, masks, dataset.train.images[:1]), masks, dataset)
    if settings.refit == "false" or all(mask.all() for mask in masks.values()):
        return Removed(plain, plain)
    images = refit_images_of(settings, dataset)
    try:
        with training.torch_threads(settings.threads):
            found = training.refit_layers(network, masks, images, device=device_of(settings))
    except RefitError as error:
        if settings.refit == "true":
            raise
        return Removed(plain, plain, fault=str(error))
    # What a refit has fitted, statistics measured anew may spoil: the validation images say whether they do.
    offered = [
        found.network,
        *([_recalibrated(settings, found.network, masks, dataset)] if settings.recalibrate else []),
    ]
    before, *reached = (evaluation_of(settings, each, dataset, "validation").accuracy for each in (plain, *offered))
    after = max(reached)
    refitted = offered[reached.index(after)]
    kept = settings.refit == "true" or after >= before
    return Removed(refitted if kept else plain, plain, found, (before, after), kept, len(images))


def swap_search_of(settings: Settings, images: ScoringSet) -> SwapSearch | None:
    """Swapping units where that lowers the cross-entropy on the scoring images; None where it is not asked for.

    A unit may come back for one of another layer where the selection asks for no more than a number of units in all.
    """
    tries, limits = swap_tries_of(settings), limits_of(settings)
    if not tries:
        return None
    across = settings.selection == "quantile" and limits.floor == limits.round_to == 1

    def swap(model: nn.Module, masks: Masks) -> SwapResult:
        with training.torch_threads(settings.threads):
            return training.search_swaps(
                model,
                masks,
                images.images,
                images.labels,
                tries=tries,
                leave_alone=limits.left_alone(masks),
                across=across,
                device=device_of(settings),
            )

    return swap


def refitted_swap_search_of(settings: Settings, dense: nn.Module, dataset: Dataset) -> SwapSearch | None:
    """Swapping units of a layer where what reads them loses less by that, once refitted; None where not asked for.

    Judged on the images of the refit, without labels, and from the dense network, whatever network it is given. What it
    leads to is kept where the accuracy on the validation images, after refit, is at least that of the masks given.
    """
    tries, limits = swap_tries_of(settings), limits_of(settings)
    if not tries:
        return None
    measured: dict[tuple[str, ...], RefittedLoss] = {}
    accuracy = _judge_of(settings, dense, dataset)

    def swap(_: nn.Module, masks: Masks) -> SwapResult:
        alone = limits.left_alone(masks)
        with training.torch_threads(settings.threads):
            if (layers := tuple(masks)) not in measured:
                # The dense network is the same in every step.
                measured[layers] = training.measure_readings(dense, layers, refit_images_of(settings, dataset))
            found = training.search_refitted_swaps(measured[layers], masks, tries=tries, leave_alone=alone)
        if not any(found.swaps.values()) or accuracy(found.masks) >= accuracy(masks):
            return found
        return replace(found, masks=masks, loss_after=found.loss_before, swaps=dict.fromkeys(masks, 0))

    return swap


def choose_after_refit(settings: Settings, dense: nn.Module, masks: Masks, dataset: Dataset) -> RefittedChoice:
    """The best masks of the same counts on the validation images, after refit: those given, and structured OBS's.

    Swaps begin at the best of them, and single layers are taken from the others; OBS sees the images of the refit.
    Where OBS cannot follow the units, the masks given are searched alone; where the readings cannot be measured, as
    behind a forward that torch cannot differentiate, nothing is swapped.
    """
    images, layers, counts = refit_images_of(settings, dataset), tuple(masks), training.counts(masks)
    candidates = {"program": masks}
    unread = torch.zeros(len(images), dtype=torch.int64)
    evidence = Evidence(dense, images, unread, layers, settings.seed, device=device_of(settings))
    for rule in OBS:
        try:
            with training.torch_threads(settings.threads):
                [scores] = training.draw_scores(rule, evidence)
        except (SelectionError, RefitError) as error:
            LOG.info("prune    no masks of %s: %s", rule, error)
            continue
        candidates[rule] = training.by_counts(scores, counts)
    tries, alone = swap_tries_of(settings), limits_of(settings).left_alone(masks)
    judge = _judge_of(settings, dense, dataset)
    if not tries or len(candidates) == 1:
        return training.choose_refitted(candidates, judge)
    try:
        with training.torch_threads(settings.threads):
            loss = training.measure_readings(dense, layers, images)
    except RefitError as error:
        LOG.info("prune    no swaps: %s", error)
        return training.choose_refitted(candidates, judge)

    def swap(given: Masks) -> Masks:
        with training.torch_threads(settings.threads):
            return training.search_refitted_swaps(loss, given, tries=tries, leave_alone=alone).masks

    return training.choose_refitted(candidates, judge, swap)


def _judge_of(settings: Settings, dense: nn.Module, dataset: Dataset) -> Callable[[Masks], float]:
    """Accuracy on the validation images without the removed units, after whatever follows a removal."""

    def accuracy(masks: Masks) -> float:
        network = remove_units(settings, dense, masks, dataset).network
        return evaluation_of(settings, network, dataset, "validation").accuracy

    return accuracy


def rework_of(settings: Settings, dataset: Dataset) -> Rework | None:
    """BatchNorm recalibration on the training images; None where it is not asked for."""
    if not settings.recalibrate:
        return None

    def rework(network: nn.Module, _: Masks) -> nn.Module:
        with training.torch_threads(settings.threads):
            return training.recalibrate(network, dataset.train.images, device=device_of(settings))

    return rework


def _recalibrated(settings: Settings, network: nn.Module, masks: Masks, dataset: Dataset) -> nn.Module:
    rework = rework_of(settings, dataset)
    return network if rework is None else training.prune(rework(network, masks), masks, dataset.train.images[:1])
