"""The mean loss, cross-entropy or squared error, approximated from below by loss cuts.

For one image with logits o, label y and d_c = o_c - o_y the loss is f(o) = log sum_c exp d_c, convex. Two forms:

    tangent   theta >= f(o') + sum_c (p_c - [c = y]) (o_c - o'_c),  p = softmax(o')
    lifted    e_c >= exp(v_c) (1 + d_c - theta - v_c),  sum_c e_c <= 1,  v = d' - f(o')  (so v <= 0)

because theta >= f(o) iff sum_c exp(d_c - theta) <= 1, and exp is convex. Every loss cut is valid everywhere, and both
cut off the point they were made at unless theta already equals the loss there. The squared error of K outputs against
the targets z of an image, f(o) = |o - z|^2 / K, has the first form with 2 (o' - z) / K in place of p - [c = y].
Tangents of neighbouring images are averaged into one cut where there are more than `GROUPS` images: theta then stands
for the mean loss of a group, the program keeps its size, and the point they were made at is cut off all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from scipy.sparse import csr_array, hstack
from scipy.special import log_softmax

from formulation.network import Array, Index, Labels
from formulation.relaxation.cuts import Cuts, make_loss_cuts
from formulation.relaxation.propagation import backward
from formulation.relaxation.reduction import ReducedBatch, Reduction
from naming import CutForm, ScoreLoss

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
    below = logits - logits.max(axis=0)
    loss: Array = np.log(np.exp(below).sum(axis=0)) - below[labels, np.arange(len(labels))]
    return loss


def image_losses(outputs: Array, labels: Labels, loss: ScoreLoss) -> Array:
    """The loss of each image.

    Args:
        outputs: o, [outputs, images].
        labels: classes y [images], or targets z [images, outputs].
        loss: which of the two they are read by.

    Returns:
        [images], in nats, or in squares of the targets' units.
    """
    if loss == "squared":
        errors: Array = np.mean((outputs - labels.T) ** 2, axis=0)
        return errors
    return cross_entropy(outputs, cast(Index, labels))


def slope(outputs: Array, labels: Labels, loss: ScoreLoss) -> Array:
    """The derivative of each image's loss by its outputs, [outputs, images]: softmax less the label, or 2 (o - z) / K.

    Args:
        outputs, labels, loss: as for `image_losses`.
    """
    if loss == "squared":
        errors: Array = 2 * (outputs - labels.T) / len(outputs)
        return errors
    made: Array = np.exp(outputs - outputs.max(axis=0))
    made /= made.sum(axis=0)
    made[cast(Index, labels), np.arange(len(labels))] -= 1
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


def tangents(reduction: Reduction, batch: ReducedBatch, logits: Array, point: Array) -> tuple[csr_array | Array, Array]:
    """A batch's share in the mean tangent of each group of images at a point.

    Args:
        reduction: the scoring set in score space.
        batch: the batch of it.
        logits: [classes, images of the batch], at the point.
        point: [columns].

    Returns:
        Gradients [groups, columns], dense where Jacobians are held, and what is left at 0, [groups].
    """
    loss = reduction.settings.loss
    group = groups(reduction.images, "tangent")
    here, share = group[batch.where], 1 / np.bincount(group)
    weights = slope(logits, batch.labels, loss) * share[here]
    value = np.bincount(here, image_losses(logits, batch.labels, loss) * share[here], len(share))
    if batch.first_order is not None:
        gradient = np.zeros((len(share), reduction.columns))
        some = slice(here[0], here[-1] + 1)
        gradient[some, : reduction.scores] = batch.first_order.summed(weights, here - here[0])
        return gradient, value - gradient @ point
    last = reduction.network.nodes[-1].name
    each = np.arange(batch.images)
    of_group = csr_array((np.ones(batch.images), (here, each)), shape=(len(share), batch.images))
    passed = csr_array(of_group @ backward(reduction, batch, {last: weights}, each))
    return passed, value - passed @ point


def tangent_loss_cuts(reduction: Reduction, logits: Array, made: Sequence[tuple[csr_array | Array, Array]]) -> Cuts:
    """One loss cut per group of images, theta_g >= the mean of its images' tangents.

    Args:
        reduction: the scoring set in score space.
        logits: [classes, images], at the point where the tangents were made.
        made: each batch's `tangents`, in order.

    Returns:
        Cuts over the columns [reduction | theta].
    """
    sizes = np.bincount(groups(reduction.images, "tangent"))
    gradient = sum((g for g, _ in made[1:]), made[0][0])
    matrix = hstack([csr_array(-gradient), csr_array(np.eye(len(sizes)))], format="csr")
    constants = np.sum([value for _, value in made], axis=0)
    return make_loss_cuts(csr_array(matrix), constants, _on_logits(reduction, logits, sizes))


def _on_logits(reduction: Reduction, logits: Array, sizes: Index) -> csr_array:
    """What each group's cut takes off each logit, [groups, classes * images]: its images' mean slope."""
    weights = slope(logits, reduction.labels, reduction.settings.loss) / np.repeat(sizes, sizes)
    ends = np.cumsum(sizes)
    place = np.arange(weights.size).reshape(weights.shape)
    data, columns = (
        np.concatenate([values[:, end - size : end].ravel() for size, end in zip(sizes, ends, strict=True)])
        for values in (weights, place)
    )
    return csr_array((data, columns, len(weights) * np.append(0, ends)), shape=(len(sizes), weights.size))


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
    labels = cast(Index, batch.labels)
    margins = logits - logits[labels, np.arange(batch.images)]
    v = log_softmax(margins, axis=0)
    c, i = np.nonzero(v > np.log(NEGLIGIBLE))
    row, image, label = np.arange(len(c)), batch.first + i, labels[i]
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
