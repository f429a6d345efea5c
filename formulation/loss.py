"""The mean cross-entropy, approximated from below by planes.

For one image with logits o, label y and d_c = o_c - o_y the loss is f(o) = log sum_c exp d_c, convex. Two forms:

    tangent   theta >= f(o') + sum_c (p_c - [c = y]) (o_c - o'_c),  p = softmax(o')
    lifted    e_c >= exp(v_c) (1 + d_c - theta - v_c),  sum_c e_c <= 1,  v = d' - f(o')  (so v <= 0)

because theta >= f(o) iff sum_c exp(d_c - theta) <= 1, and exp is convex. Every plane is valid everywhere, and both
cut off the point they were made at unless theta already equals the loss there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, hstack, vstack
from scipy.special import log_softmax, logsumexp

from formulation.network import Array
from formulation.reduction import Forms, Index, Reduction, sparse_rows

NEGLIGIBLE = 1e-9  # planes of classes less probable than this are left out; leaving a plane out is always valid


@dataclass(frozen=True, eq=False)
class Rows:
    """lower <= matrix @ columns <= upper over the program's columns."""

    matrix: csr_array
    lower: Array
    upper: Array

    def __len__(self) -> int:
        return int(self.matrix.shape[0])


def stack_rows(blocks: list[Rows], width: int) -> Rows:
    """All blocks as one, padded to `width` columns."""
    if not blocks:
        return Rows(csr_array((0, width)), np.zeros(0), np.zeros(0))
    padded = [csr_array((b.matrix.data, b.matrix.indices, b.matrix.indptr), shape=(len(b), width)) for b in blocks]
    return Rows(
        csr_array(vstack(padded, format="csr")),
        np.concatenate([b.lower for b in blocks]),
        np.concatenate([b.upper for b in blocks]),
    )


def cross_entropy(logits: Array, labels: Index) -> Array:
    """The loss of each image, for logits [classes, images]."""
    loss: Array = logsumexp(logits, axis=0) - logits[labels, np.arange(len(labels))]
    return loss


def tangent_cuts(reduction: Reduction, point: Array) -> Rows:
    """One tangent per image at `point`, over the columns [reduction | theta]."""
    width = reduction.columns
    blocks = []
    for part in reduction.parts:
        labels, logits = _labels(reduction, part.first, part.images), part.logits.at(point)
        slope = np.exp(log_softmax(logits, axis=0))
        slope[labels, np.arange(part.images)] -= 1
        gradient = np.einsum("kn,knc->nc", slope, part.logits.coefficients)
        touch = cross_entropy(logits, labels) + (slope * (part.logits.constant - logits)).sum(axis=0)
        theta = csr_array(
            (np.ones(part.images), (np.arange(part.images), part.first + np.arange(part.images))),
            shape=(part.images, len(reduction.labels)),
        )
        matrix = hstack([sparse_rows(-gradient, part.logits.columns, width), theta], format="csr")
        blocks.append(Rows(csr_array(matrix), touch, np.full(part.images, np.inf)))
    return stack_rows(blocks, width + len(reduction.labels))


def lifted_cuts(reduction: Reduction, point: Array) -> Rows:
    """One plane per image and class at `point`, over the columns [reduction | theta | mass (image, class)]."""
    width, images, classes = reduction.columns, len(reduction.labels), reduction.network.classes
    blocks = []
    for part in reduction.parts:
        labels = _labels(reduction, part.first, part.images)
        margins = _margins(part.logits, labels)
        v = log_softmax(margins.at(point), axis=0)
        for c in range(classes):
            kept = np.flatnonzero(v[c] > np.log(NEGLIGIBLE))
            weight, image = np.exp(v[c, kept]), part.first + kept
            of_margin = sparse_rows(-weight[:, None] * margins.coefficients[c, kept], margins.columns[kept], width)
            row = np.arange(len(kept))
            of_theta = csr_array((weight, (row, image)), shape=(len(kept), images))
            of_mass = csr_array((np.ones(len(kept)), (row, image * classes + c)), shape=(len(kept), images * classes))
            matrix = csr_array(hstack([of_margin, of_theta, of_mass], format="csr"))
            lower = weight * (1 - v[c, kept] + margins.constant[c, kept])
            blocks.append(Rows(matrix, lower, np.full(len(kept), np.inf)))
    return stack_rows(blocks, width + images * (1 + classes))


def _margins(logits: Forms, labels: Index) -> Forms:
    """d_c = o_c - o_y as forms."""
    each = np.arange(len(labels))
    return Forms(
        logits.constant - logits.constant[labels, each],
        logits.coefficients - logits.coefficients[labels, each],
        logits.columns,
    )


def _labels(reduction: Reduction, first: int, images: int) -> Index:
    return reduction.labels[first : first + images]
