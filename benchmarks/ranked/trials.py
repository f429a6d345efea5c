"""Trials of masks: what a network without some units comes to, plain, recalibrated, refitted and trained on."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import nn

import training
from benchmarks.ranked.cells import Bench
from training import FitSettings, Masks, Split

RECALIBRATED_ON = 1000  # training images


@dataclass(eq=False)
class Trials:
    """Networks without units, each refitted once: equal masks have one value.

    Attributes:
        judged, measured: validation and test accuracy in % after refit, by masks.
    """

    bench: Bench
    judged: dict[bytes, float] = field(default_factory=dict)
    measured: dict[bytes, float] = field(default_factory=dict)

    def validation(self, masks: Masks) -> float:
        """Accuracy after refit on the validation images, by which masks are chosen."""
        self._refit(masks)
        return self.judged[_key(masks)]

    def refitted(self, masks: Masks) -> float:
        """Accuracy after refit on the test images, which only measure."""
        self._refit(masks)
        return self.measured[_key(masks)]

    def plain(self, masks: Masks) -> float:
        """Test accuracy of the dense network without the units, and nothing else."""
        return self._test(training.prune(self.bench.dense, masks, self.bench.images[:1]), masks)

    def recalibrated(self, masks: Masks) -> float:
        """Test accuracy with the statistics of BatchNorms measured anew."""
        images = self.bench.data.train.images[:RECALIBRATED_ON]
        plain = training.recalibrate(training.prune(self.bench.dense, masks, images[:1]), images)
        return self._test(training.prune(plain, masks, images[:1]), masks)

    def trained_on(self, masks: Masks) -> float:
        """Test accuracy after the refit and one epoch of training."""
        bench = self.bench
        network = training.refit(bench.dense, masks, bench.fitted)
        smaller = training.compact(network, masks, bench.images[:1])
        settings = FitSettings(epochs=1, seed=bench.cell.seed)
        fitted = training.fit(smaller, bench.data.train, bench.data.validation, settings)
        return _accuracy(fitted.model, bench.data.test)

    def _refit(self, masks: Masks) -> None:
        key = _key(masks)
        if key in self.judged:
            return
        network = training.refit(self.bench.dense, masks, self.bench.fitted)
        smaller = training.compact(network, masks, self.bench.images[:1])
        self.judged[key] = _accuracy(smaller, self.bench.data.validation)
        self.measured[key] = _accuracy(smaller, self.bench.data.test)

    def _test(self, network: nn.Module, masks: Masks) -> float:
        return _accuracy(training.compact(network, masks, self.bench.images[:1]), self.bench.data.test)


def _accuracy(network: nn.Module, split: Split) -> float:
    return 100 * training.evaluate(network, split).accuracy


def _key(masks: Masks) -> bytes:
    return b"".join(np.packbits(mask).tobytes() for mask in masks.values())
