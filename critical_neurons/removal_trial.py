"""Trials of a removal: the network without some units, refitted where that does not cost accuracy."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

import training
from critical_neurons.loaders import Samples
from training import Masks, RefitError


@dataclass(frozen=True, eq=False)
class Trial:
    """A network without units: its accuracy on the held-back images, and what it was without a refit.

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


@dataclass(frozen=True, eq=False)
class Trials:
    """How units are removed from a dense network, and what the outcome is judged by.

    Attributes:
        left_alone: layers that keep all their units, which nothing has to be able to follow.
    """

    dense: nn.Module
    fitted_to: Tensor
    judged_on: Samples
    refit: bool
    threads: int
    device: str
    left_alone: frozenset[str] = frozenset()

    def followed(self, masks: Masks) -> Masks:
        """The masks of the layers that may lose units."""
        return {layer: mask for layer, mask in masks.items() if layer not in self.left_alone}

    def accuracy_of(self, network: nn.Module) -> float:
        """The share of the judging images that a network classifies correctly."""
        with training.torch_threads(self.threads):
            logits = training.predict(network, self.judged_on.images, device=self.device)
        return float((logits.argmax(1) == self.judged_on.labels).double().mean())

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
