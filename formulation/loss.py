"""The mean cross-entropy, approximated from below by planes.

For one image with logits o, label y and d_c = o_c - o_y the loss is f(o) = log sum_c exp d_c, convex. Two forms:

    tangent   theta >= f(o') + sum_c (p_c - [c = y]) (o_c - o'_c),  p = softmax(o')
    lifted    e_c >= exp(v_c) (1 + d_c - theta - v_c),  sum_c e_c <= 1,  v = d' - f(o')  (so v <= 0)

because theta >= f(o) iff sum_c exp(d_c - theta) <= 1, and exp is convex. Every plane is valid everywhere, and both
cut off the point they were made at unless theta already equals the loss there. Tangents of neighbouring images are
averaged into one plane where there are more than `GROUPS` images: theta then stands for the mean loss of a group, the
program keeps its size, and the point they were made at is cut off all the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array, hstack, vstack
from scipy.special import log_softmax, logsumexp

from formulation.network import Array, Index
from formulation.reduction import ReducedImages, Reduction
from formulation.rows import Rows, planes
from formulation.settings import Cuts
from formulation.sweeps import backward

NEGLIGIBLE = 1e-9  # planes of classes less probable than this are left out; leaving a plane out is always valid
GROUPS = 30


def cross_entropy(logits: Array, labels: Index) -> Array:
    """The loss of each image, for logits [classes, images]."""
    loss: Array = logsumexp(logits, axis=0) - logits[labels, np.arange(len(labels))]
    return loss


def slope(logits: Array, labels: Index) -> Array:
    """The derivative of each image's loss by its logits, softmax less the label, [classes, images]."""
    made: Array = np.exp(log_softmax(logits, axis=0))
    made[labels, np.arange(len(labels))] -= 1
    return made


def groups(images: int, cuts: Cuts) -> Index:
    """The group of each image: its theta stands for the group's mean loss. Lifted planes need one image a group."""
    count = images if cuts == "lifted" else min(images, GROUPS)
    return np.arange(images) * count // images


def tangents(reduction: Reduction, part: ReducedImages, logits: Array, point: Array) -> tuple[csr_array, Array]:
    """Each image's tangent at `point`, where the slice's logits are `logits`: gradients and what is left at 0."""
    weights = slope(logits, part.labels)
    last = reduction.network.nodes[-1].name
    gradient = backward(reduction, part, {last: weights}, np.arange(part.images))
    return gradient, cross_entropy(logits, part.labels) - gradient @ point


def tangent_planes(reduction: Reduction, logits: Array, touching: Sequence[tuple[csr_array, Array]]) -> Rows:
    """One plane per group of images from the slices' tangents, over the columns [reduction | theta]."""
    group = groups(reduction.images, "tangent")
    count = int(group[-1]) + 1
    each = np.arange(reduction.images)
    mean = csr_array((1 / np.bincount(group)[group], (group, each)), shape=(count, reduction.images))
    gradient = mean @ vstack([g for g, _ in touching], format="csr")
    matrix = hstack([-gradient, csr_array(np.eye(count))], format="csr")
    weights = slope(logits, reduction.labels)
    classes = np.arange(len(weights))[:, None]
    of_image = csr_array(
        (weights.ravel(), (np.broadcast_to(each, weights.shape).ravel(), (classes * reduction.images + each).ravel())),
        shape=(reduction.images, weights.size),
    )
    return planes(csr_array(matrix), mean @ np.concatenate([t for _, t in touching]), csr_array(mean @ of_image))


def lifted_planes(reduction: Reduction, part: ReducedImages, logits: Array, point: Array) -> Rows:
    """One plane per image and class of a slice, over the columns [reduction | theta | mass (image, class)]."""
    images, classes = reduction.images, reduction.network.classes
    margins = logits - logits[part.labels, np.arange(part.images)]
    v = log_softmax(margins, axis=0)
    c, i = np.nonzero(v > np.log(NEGLIGIBLE))
    row, image, label = np.arange(len(c)), part.first + i, part.labels[i]
    weight = np.exp(v[c, i])
    seeds = np.zeros((classes, len(row)))
    np.add.at(seeds, (c, row), 1.0)
    np.add.at(seeds, (label, row), -1.0)
    gradient = backward(reduction, part, {reduction.network.nodes[-1].name: seeds}, i)
    scaled = csr_array((weight, (row, row)))
    of_theta = csr_array((weight, (row, image)), shape=(len(row), images))
    of_mass = csr_array((np.ones(len(row)), (row, image * classes + c)), shape=(len(row), images * classes))
    constant = margins[c, i] - gradient @ point
    on_logits = csr_array(
        (np.concatenate([weight, -weight]), (np.tile(row, 2), np.concatenate([c, label]) * images + np.tile(image, 2))),
        shape=(len(row), classes * images),
    )
    matrix = csr_array(hstack([-(scaled @ gradient), of_theta, of_mass], format="csr"))
    return planes(matrix, weight * (1 - v[c, i] + constant), on_logits)
