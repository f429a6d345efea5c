"""Jacobians of the scoring set, computed once where they fit: `linear` then needs no further pass of its network."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from formulation.deadline import NEVER, Deadline
from formulation.network import Array, Index
from formulation.relaxation.first_order import FirstOrder
from formulation.relaxation.propagation import backward, forward
from formulation.relaxation.reduction import ReducedBatch, Reduction

HELD_NUMBERS = 2**27  # numbers of Jacobians held, a gigabyte
# A Jacobian takes a pass backwards for each class, a search about so many in all: with more classes passes are cheaper.
MOST_CLASSES = 50


def with_jacobians(
    reduction: Reduction,
    *,
    held_numbers: int = HELD_NUMBERS,
    most_classes: int = MOST_CLASSES,
    deadline: Deadline = NEVER,
) -> Reduction:
    """The same program, its logits held to first order: values and coefficients are dense products.

    It is left as it is for any gate but `linear`, and where the Jacobians would not pay or not fit.

    Args:
        reduction: the scoring set in score space.
        held_numbers: how many numbers they may take in all.
        most_classes: with more classes than these, passes are cheaper.
        deadline: no batch is begun that would end behind it.

    Raises:
        TimeLimitReached: the deadline came first.
    """
    classes = reduction.network.classes
    numbers = classes * reduction.scores * reduction.images
    if reduction.settings.gate != "linear" or numbers > held_numbers or classes > most_classes:
        return reduction
    made, longest = [], 0.0
    for batch in reduction.batches:
        deadline.require(f"the derivatives of image {batch.first + 1} of {reduction.images}", longest)
        started = time.monotonic()
        made.append(replace(batch, gates={}, nominal={}, first_order=_expanded(reduction, batch)))
        longest = max(longest, time.monotonic() - started)
    return replace(reduction, _kept=tuple(made))


def _expanded(reduction: Reduction, batch: ReducedBatch) -> FirstOrder:
    network, last = reduction.network, reduction.network.nodes[-1]
    whole = network.differentiable
    if whole is not None:
        logits, jacobian = whole.passes.jacobian(batch.pixels)
        return FirstOrder(logits, _of_scores(jacobian, whole.score, reduction.scores))
    found = np.empty((batch.images, network.classes, reduction.scores))
    for label in range(network.classes):
        seeds = np.zeros((network.classes, batch.images))
        seeds[label] = 1.0
        found[:, label] = backward(reduction, batch, {last.name: seeds}, np.arange(batch.images)).toarray()
    return FirstOrder(forward(reduction, batch, np.ones(reduction.columns)).logits, found)


def _of_scores(jacobian: Array, score: Index, count: int) -> Array:
    """Derivatives by the scores, [images, classes, scores], from those by the gates; one gate a score."""
    if np.array_equal(score, np.arange(count)):
        return jacobian
    return np.ascontiguousarray(jacobian[:, :, np.argsort(score)[-count:]])
