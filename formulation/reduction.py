"""Affine propagation in score space: what is decided is substituted away, what is undecided keeps its variables.

Every activation of every image is an affine form of the program's columns: first all scores, then two columns
(`hidden`, `open`) per undecided activation. Layer after layer,

    y = W h + b          an affine map of forms is a form
    h = y - (1 - s) cap  open:      the unit's own score enters
    h = 0                closed
    h = its own column   undecided

so the logits, and every row of the program, are forms in a few hundred columns instead of hundreds of thousands of
variables. A form is kept over *local* columns: the scores of the layers so far and the image's own undecided columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import assert_never

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from formulation.bounds import input_box, propagate
from formulation.gates import OPEN, UNDECIDED, Gate, gate
from formulation.network import INPUT, Affine, Array, Network, Relu
from formulation.settings import ScoreSettings

Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Forms:
    """Affine forms of a activations for n images: constant [a, n] + coefficients [a, n, c] over columns [n, c]."""

    constant: Array
    coefficients: Array
    columns: Index

    def at(self, point: Array) -> Array:
        """Values [a, n] at a point [all columns]."""
        moved: Array = np.einsum("anc,nc->an", self.coefficients, point[self.columns])
        return self.constant + moved

    def mapped(self, op: Affine) -> Forms:
        """W form + b."""
        activations, images, width = self.coefficients.shape
        coefficients = op.weight @ self.coefficients.reshape(activations, images * width)
        return replace(
            self, constant=op.apply(self.constant), coefficients=coefficients.reshape(len(coefficients), images, width)
        )


@dataclass(frozen=True, eq=False)
class GatedLayer:
    """One ReLU node on some images: the gate, the forms its rows bound, and its undecided activations' columns.

    `forms` is h where the gate is open and y elsewhere. `hidden` and `open` hold the column of each undecided
    activation, -1 elsewhere, [activations, images].
    """

    layer: str
    unit: Index
    gate: Gate
    forms: Forms
    hidden: Index
    open: Index
    score: Index  # the score column of each activation, [activations]


@dataclass(frozen=True, eq=False)
class ReducedImages:
    """Some images of the scoring set in score space: `first` is the position of the first of them."""

    first: int
    gated: tuple[GatedLayer, ...]
    logits: Forms

    @property
    def images(self) -> int:
        return len(self.logits.columns)


@dataclass(frozen=True, eq=False)
class Reduction:
    """The whole scoring set in score space.

    Attributes:
        network: the lowered network.
        labels: the class of each image.
        parts: the images in slices, each with its own local columns.
        columns: number of scores plus two per undecided activation.
        hidden_caps: u+ of each undecided activation, in the order of its columns (hidden, open alternate).
    """

    network: Network
    labels: Index
    parts: tuple[ReducedImages, ...]
    columns: int
    hidden_caps: Array

    @property
    def scores(self) -> int:
        """Number of score columns; they come first."""
        return sum(self.network.units.values())

    @property
    def hidden_columns(self) -> Index:
        return np.arange(self.scores, self.columns, 2)

    @property
    def open_columns(self) -> Index:
        return np.arange(self.scores + 1, self.columns, 2)

    def complete(self, scores: Array) -> Array:
        """The point at which every undecided activation is h = max(0, y - (1 - s) cap) and open says whether h > 0."""
        point = np.zeros(self.columns)
        point[: self.scores] = scores
        for part in self.parts:
            for layer in part.gated:
                waiting = layer.gate.state == UNDECIDED
                if not waiting.any():
                    continue
                loss = (1 - scores[layer.score])[:, None] * layer.gate.cap
                hidden = np.maximum(layer.forms.at(point) - loss, 0.0)[waiting]
                point[layer.hidden[waiting]] = hidden
                point[layer.open[waiting]] = hidden > 0
        return point

    def logits(self, point: Array) -> Array:
        """Logits [classes, images] at a point."""
        return np.concatenate([part.logits.at(point) for part in self.parts], axis=1)


def reduce(
    network: Network, pixels: Array, labels: Index, settings: ScoreSettings, *, slice_size: int = 16
) -> Reduction:
    """The scoring set in score space.

    Args:
        network: the lowered network.
        pixels: [inputs, images].
        labels: [images].
        settings: gate semantics, radius and pixel range are read.
        slice_size: images propagated at once.

    Raises:
        InvalidBounds: see `bounds.propagate`.
    """
    next_column = sum(network.units.values())
    parts: list[ReducedImages] = []
    caps: list[Array] = []
    for first in range(0, pixels.shape[1], slice_size):
        part, next_column = _reduce_slice(network, pixels[:, first : first + slice_size], first, settings, next_column)
        parts.append(part)
        caps.extend(_undecided_caps(part))
    return Reduction(network, labels, tuple(parts), next_column, np.concatenate([*caps, np.zeros(0)]))


def gates(network: Network, pixels: Array, settings: ScoreSettings) -> Iterator[tuple[str, Gate]]:
    """The gate of each ReLU node, by the node's name, for pixels [inputs, images]."""
    box = input_box(pixels, settings.radius, settings.pixel_range)
    boxes = propagate(network, box, valid=settings.gate == "exact")
    for node in network.nodes:
        if isinstance(node.op, Relu):
            # `pattern` lives at radius 0, where a box is its centre
            yield node.name, gate(settings.gate, boxes[node.source], boxes[node.source].lower)


def _reduce_slice(
    network: Network, pixels: Array, first: int, settings: ScoreSettings, next_column: int
) -> tuple[ReducedImages, int]:
    images = pixels.shape[1]
    nothing = np.zeros((pixels.shape[0], images, 0))
    forms = {INPUT: Forms(pixels, nothing, np.zeros((images, 0), dtype=np.int64))}
    gate_of = dict(gates(network, pixels, settings))
    where = network.score_slices
    gated = []
    for node in network.nodes:
        source = forms[node.source]
        match node.op:
            case Affine():
                forms[node.name] = source.mapped(node.op)
            case Relu(layer, unit):
                made, forms[node.name], next_column = _gated(
                    source, gate_of[node.name], layer, unit, where[layer], next_column
                )
                gated.append(made)
            case _:
                assert_never(node.op)
    return ReducedImages(first, tuple(gated), forms[network.nodes[-1].name]), next_column


def _gated(
    y: Forms, made: Gate, layer: str, unit: Index, where: slice, next_column: int
) -> tuple[GatedLayer, Forms, int]:
    """The rows' forms and the forms of h behind one ReLU node."""
    activations, images = y.constant.shape
    is_open, waiting = made.state == OPEN, made.state == UNDECIDED
    units, width = where.stop - where.start, y.columns.shape[1]
    hidden, open_ = _new_columns(waiting, next_column)
    slots, slot = _local_slots(waiting)

    coefficients = np.zeros((activations, images, width + units + slots))
    coefficients[:, :, :width] = y.coefficients
    each = np.arange(activations)
    coefficients[each, :, width + unit] = np.where(is_open, made.cap, 0.0)
    constant = y.constant - np.where(is_open, made.cap, 0.0)
    score_columns = np.broadcast_to(np.arange(where.start, where.stop), (images, units))
    own = np.zeros((images, slots), dtype=np.int64)
    own[np.nonzero(waiting.T)[0], slot.T[waiting.T]] = hidden.T[waiting.T]
    columns = np.concatenate([y.columns, score_columns, own], axis=1)

    rows = Forms(constant, coefficients[:, :, : width + units], columns[:, : width + units])
    h = np.where(is_open[:, :, None], coefficients, 0.0)
    j, i = np.nonzero(waiting)
    h[j, i, width + units + slot[j, i]] = 1.0
    after = Forms(np.where(is_open, constant, 0.0), h, columns)
    gated = GatedLayer(layer, unit, made, rows, hidden, open_, where.start + unit)
    return gated, after, next_column + 2 * int(waiting.sum())


def _new_columns(waiting: NDArray[np.bool_], next_column: int) -> tuple[Index, Index]:
    """Two fresh columns per undecided activation, image after image; -1 elsewhere."""
    order = np.zeros(waiting.T.shape, dtype=np.int64)
    order[waiting.T] = np.arange(int(waiting.sum()))
    hidden = np.where(waiting, next_column + 2 * order.T, -1)
    return hidden, np.where(waiting, hidden + 1, -1)


def _local_slots(waiting: NDArray[np.bool_]) -> tuple[int, Index]:
    """How many local columns the undecided activations of one image need at most, and which one each takes."""
    slot = np.cumsum(waiting, axis=0) - 1
    return int(waiting.sum(axis=0).max(initial=0)), slot


def _undecided_caps(part: ReducedImages) -> Iterator[Array]:
    for layer in part.gated:
        waiting = (layer.gate.state == UNDECIDED).T
        yield layer.gate.cap.T[waiting]


def sparse_rows(coefficients: Array, columns: Index, width: int) -> csr_array:
    """Rows [r, c] over their own columns [r, c] as a matrix [r, width] over all columns."""
    rows = np.repeat(np.arange(len(coefficients)), coefficients.shape[1])
    return csr_array((coefficients.ravel(), (rows, columns.ravel())), shape=(len(coefficients), width))
