"""The mean cross-entropy, approximated from below by loss cuts.

For one image with logits o, label y and d_c = o_c - o_y the loss is f(o) = log sum_c exp d_c, convex. Two forms:

    tangent   theta >= f(o') + sum_c (p_c - [c = y]) (o_c - o'_c),  p = softmax(o')
    lifted    e_c >= exp(v_c) (1 + d_c - theta - v_c),  sum_c e_c <= 1,  v = d' - f(o')  (so v <= 0)

because theta >= f(o) iff sum_c exp(d_c - theta) <= 1, and exp is convex. Every loss cut is valid everywhere, and both
cut off the point they were made at unless theta already equals the loss there. Tangents of neighbouring images are
averaged into one cut where there are more than `GROUPS` images: theta then stands for the mean loss of a group, the
program keeps its size, and the point they were made at is cut off all the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array, hstack, vstack
from scipy.special import log_softmax, logsumexp

from formulation.network import Array, Index
from formulation.relaxation.cuts import Cuts, make_loss_cuts
from formulation.relaxation.propagation import backward
from formulation.relaxation.reduction import ReducedBatch, Reduction
from naming import CutForm

NEGLIGIBLE = 1e-9  # loss cuts of classes less probable than this are left out; leaving a loss cut out is always valid
GROUPS = 30


def cross_entropy(logits: Array, labels: Index) -> Array:
    """The cross-entropy of each image, log sum_c exp o_ic - o_i,y_i.

    Args:
        logits: o, [classes, images].
        labels: y, [images].

    Returns:
        [images], in nats.
    """
    loss: Array = logsumexp(logits, axis=0) - logits[labels, np.arange(len(labels))]
    return loss


def slope(logits: Array, labels: Index) -> Array:
    """The derivative of each image's loss by its logits, softmax less the label, [classes, images]."""
    made: Array = np.exp(log_softmax(logits, axis=0))
    made[labels, np.arange(len(labels))] -= 1
    return made


def groups(images: int, cuts: CutForm) -> Index:
    """The group of each image: its theta stands for the group's mean loss.

    Args:
        images: how many there are; neighbours are grouped.
        cuts: lifted loss cuts need one image a group.

    Returns:
        [images], numbers of groups from 0, ascending.
    """
    count = images if cuts == "lifted" else min(images, GROUPS)
    return np.arange(images) * count // images


def tangents(reduction: Reduction, batch: ReducedBatch, logits: Array, point: Array) -> tuple[csr_array, Array]:
    """Each image's tangent of the cross-entropy at a point.

    Args:
        reduction: the scoring set in score space.
        batch: the batch of it.
        logits: [classes, images of the batch], at the point.
        point: [columns].

    Returns:
        Gradients [images, columns], and what is left at 0, [images].
    """
    weights = slope(logits, batch.labels)
    last = reduction.network.nodes[-1].name
    gradient = backward(reduction, batch, {last: weights}, np.arange(batch.images))
    return gradient, cross_entropy(logits, batch.labels) - gradient @ point


def tangent_loss_cuts(reduction: Reduction, logits: Array, made: Sequence[tuple[csr_array, Array]]) -> Cuts:
    """One loss cut per group of images, theta_g >= the mean of its images' tangents.

    Args:
        reduction: the scoring set in score space.
        logits: [classes, images], at the point where the tangents were made.
        made: each batch's `tangents`, in order.

    Returns:
        Cuts over the columns [reduction | theta].
    """
    group = groups(reduction.images, "tangent")
    count = int(group[-1]) + 1
    each = np.arange(reduction.images)
    mean = csr_array((1 / np.bincount(group)[group], (group, each)), shape=(count, reduction.images))
    gradient = mean @ vstack([g for g, _ in made], format="csr")
    matrix = hstack([-gradient, csr_array(np.eye(count))], format="csr")
    weights = slope(logits, reduction.labels)
    classes = np.arange(len(weights))[:, None]
    of_image = csr_array(
        (weights.ravel(), (np.broadcast_to(each, weights.shape).ravel(), (classes * reduction.images + each).ravel())),
        shape=(reduction.images, weights.size),
    )
    return make_loss_cuts(csr_array(matrix), mean @ np.concatenate([t for _, t in made]), csr_array(mean @ of_image))


def lifted_loss_cuts(reduction: Reduction, batch: ReducedBatch, logits: Array, point: Array) -> Cuts:
    """One loss cut per image and class of a batch, e_c >= exp(o_c - theta) from below.

    Args:
        reduction: the scoring set in score space.
        batch: the batch of it.
        logits: [classes, images of the batch], at the point.
        point: [columns], where the cuts are tangent.

    Returns:
        Cuts over the columns [reduction | theta | mass (image, class)]; none for classes of negligible mass.
    """
    images, classes = reduction.images, reduction.network.classes
    margins = logits - logits[batch.labels, np.arange(batch.images)]
    v = log_softmax(margins, axis=0)
    c, i = np.nonzero(v > np.log(NEGLIGIBLE))
    row, image, label = np.arange(len(c)), batch.first + i, batch.labels[i]
    weight = np.exp(v[c, i])
    seeds = np.zeros((classes, len(row)))
    np.add.at(seeds, (c, row), 1.0)
    np.add.at(seeds, (label, row), -1.0)
    gradient = backward(reduction, batch, {reduction.network.nodes[-1].name: seeds}, i)
    scaled = csr_array((weight, (row, row)))
    of_theta = csr_array((weight, (row, image)), shape=(len(row), images))
    of_mass = csr_array((np.ones(len(row)), (row, image * classes + c)), shape=(len(row), images * classes))
    constant = margins[c, i] - gradient @ point
    on_logits = csr_array(
        (np.concatenate([weight, -weight]), (np.tile(row, 2), np.concatenate([c, label]) * images + np.tile(image, 2))),
        shape=(len(row), classes * images),
    )
    matrix = csr_array(hstack([-(scaled @ gradient), of_theta, of_mass], format="csr"))
    return make_loss_cuts(matrix, weight * (1 - v[c, i] + constant), on_logits)
