"""Trials of a removal: the network without some units, refitted where that does not cost accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

import training
from critical_neurons.loaders import Samples
from naming import ScoreLoss
from training import DataError, Masks, RefitError, Scores

Measure = Literal["accuracy", "R^2"]


def measure_of(loss: ScoreLoss) -> Measure:
    """What a network is judged by.

    Args:
        loss: that its scores were made with.
    """
    return "R^2" if loss == "squared" else "accuracy"


def measured(outputs: Tensor, labels: Tensor, measure: Measure) -> float:
    """The share of images that outputs classify correctly; or R^2, the part of the targets' squares that they explain.

        R^2 = 1 - sum |o_i - z_i|^2 / sum |z_i - mean z|^2      at most 1; 0 for the mean, below 0 for worse than that

    Args:
        outputs: o, [n, outputs].
        labels: classes [n], or targets z [n] or [n, outputs].
        measure: which of the two.

    Raises:
        DataError: targets of another shape than the outputs, or that are all the same.
    """
    if measure == "accuracy":
        return float((outputs.argmax(1) == labels).double().mean())
    targets = labels.double().reshape(len(labels), -1)
    if targets.shape != outputs.shape:
        raise DataError(
            f"targets have {targets.shape[1]} numbers per image, and the network {outputs.shape[1]} outputs: give one "
            "for each"
        )
    # Not by the spread, which the rounding of the mean keeps above 0.
    if bool((targets == targets[0]).all()):
        raise DataError("the targets of all images are the same: R^2 measures nothing on them, give others")
    spread = float((targets - targets.mean(0)).square().sum())
    return 1 - float((outputs.double() - targets).square().sum()) / spread


@dataclass(frozen=True, eq=False)
class Trial:
    """A network without units: its accuracy (or R^2) on the held-back images, and what it was without a refit.

    Attributes:
        network: of the same shapes as the dense one.
        refitted: whether the survivors were fitted anew.
        fault: why a refit could not be made; empty where there is nothing to say.
    """

    network: nn.Module
    accuracy: float
    plain_accuracy: float
    refitted: bool
    fault: str = ""


def _always(_masks: Masks) -> bool:
    return True


@dataclass(frozen=True, eq=False)
class Trials:
    """How units are removed from a dense network, and what the outcome is judged by.

    Attributes:
        left_alone: layers that keep all their units, which nothing has to be able to follow.
        others: further rankings, whose masks of the same counts take over where the accuracy is higher with them.
        measure: what stands for accuracy.
    """

    dense: nn.Module
    fitted_to: Tensor
    judged_on: Samples
    refit: bool
    threads: int
    device: str
    left_alone: frozenset[str] = frozenset()
    others: tuple[Scores, ...] = ()
    measure: Measure = "accuracy"

    def followed(self, masks: Masks) -> Masks:
        """The masks of the layers that may lose units."""
        return {layer: mask for layer, mask in masks.items() if layer not in self.left_alone}

    def accuracy_of(self, network: nn.Module) -> float:
        """The share of the judging images that a network classifies correctly, or its R^2 on them."""
        with training.torch_threads(self.threads):
            outputs = training.predict(network, self.judged_on.images, device=self.device)
        return measured(outputs, self.judged_on.labels, self.measure)

    def without(self, masks: Masks) -> Trial:
        """The network without the removed units; the refit is kept where the accuracy does not fall by it."""
        masks = self.followed(masks)
        plain = training.prune(self.dense, masks, self.fitted_to[:1])
        before = self.accuracy_of(plain)
        if not self.refit or all(mask.all() for mask in masks.values()):
            return Trial(plain, before, before, refitted=False)
        try:
            with training.torch_threads(self.threads):
                found = training.refit(self.dense, masks, self.fitted_to, device=self.device)
        except RefitError as error:
            return Trial(plain, before, before, refitted=False, fault=str(error))
        after = self.accuracy_of(found)
        return Trial(found, after, before, refitted=True) if after >= before else Trial(plain, before, before, False)

    def best(self, masks: Masks, fits: Callable[[Masks], bool] = _always) -> tuple[Masks, Trial]:
        """The masks given, or better ones of the other rankings that fit and keep as many units of each layer."""
        found, tried = masks, self.without(masks)
        removed = training.counts(self.followed(masks))
        for scores in self.others:
            theirs = masks | training.by_counts(scores, {layer: removed[layer] for layer in scores})
            if not fits(theirs):
                continue
            trial = self.without(theirs)
            if trial.accuracy > tried.accuracy:
                found, tried = theirs, trial
        return found, tried
