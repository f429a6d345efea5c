"""The scoring set in score space: what is decided needs no variables, what is undecided keeps its own columns.

Every activation of every image is an affine form of the program's columns: first all scores, then the columns of the
undecided activations and windows. Layer after layer,

    y = W h + b          an affine map of forms is a form, and so is a sum or a shift
    h = y - (1 - s) cap  open:      the unit's own score enters
    h = 0                closed
    h = its own column   undecided
    out = h_pick         decided window;  out = its own column where undecided

so the logits, and every row of the program, are forms in a few hundred columns instead of hundreds of thousands of
variables. No form is ever stored: `sweeps` reads values off forwards and coefficients backwards, slice after slice of
the scoring set, so memory grows with the images and the columns, not with their activations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from formulation.bounds import Box, input_box, propagate
from formulation.gates import Gate, PoolGate, pool_gate, relu_gate
from formulation.network import INPUT, Add, Affine, Array, Index, MaxPool, Network, Relu, Shift
from formulation.settings import ScoreSettings

SLICE_NUMBERS = 2**20  # activations times images held at once by the largest value of a slice
SLICE_IMAGES = 128
KEPT_NUMBERS = 2**25  # numbers in gates kept between passes; beyond it they are made again in every pass


@dataclass(frozen=True, eq=False)
class Waiting:
    """The undecided activations or windows of one node on one slice, and the columns of the program that are theirs.

    Attributes:
        activation, image: which they are, image within the slice, [k].
        value: column of h, or of a window's output, [k].
        phase: column of `open` [k, 1], or of a window's picks [k, window], -1 where the window holds nothing.
        column: the column of h for every activation and image, -1 where decided, [activations, images].
    """

    activation: Index
    image: Index
    value: Index
    phase: Index
    column: Index


@dataclass(frozen=True, eq=False)
class ReducedImages:
    """A slice of the scoring set: the image `first` and those after it.

    Attributes:
        gates: the decisions of each ReLU and max-pool node.
        nominal: what each of these nodes reads in the unpruned network, [activations, images].
        waiting: the columns of each node with undecided activations.
    """

    first: int
    pixels: Array
    labels: Index
    gates: Mapping[str, Gate | PoolGate]
    nominal: Mapping[str, Array]
    waiting: Mapping[str, Waiting]

    @property
    def images(self) -> int:
        return len(self.labels)

    @property
    def where(self) -> slice:
        """Its place among all images."""
        return slice(self.first, self.first + self.images)


@dataclass(frozen=True, eq=False)
class Reduction:
    """The whole scoring set in score space.

    Attributes:
        network: the lowered network.
        pixels, labels: [inputs, images], [images].
        settings: gate semantics, radius and pixel range are read.
        starts: first image and first undecided column of each slice.
        columns: number of all columns; the scores come first.
        undecided: number of undecided activations and windows.
        known: nodes of the pixels alone that only gates read: `ReducedImages.nominal` holds their values.
        spread: per node on which scores act, the matrix [scores, activations] that sums activations by unit.
    """

    network: Network
    pixels: Array
    labels: Index
    settings: ScoreSettings
    starts: tuple[tuple[int, int], ...]
    columns: int
    undecided: int
    known: frozenset[str]
    spread: Mapping[str, csr_array]
    _kept: tuple[ReducedImages, ...] | None

    @property
    def images(self) -> int:
        return len(self.labels)

    @property
    def scores(self) -> int:
        """Number of score columns; they come first."""
        return self.network.score_count

    @property
    def parts(self) -> Iterator[ReducedImages]:
        """The slices in order; made again in every pass where they are too many to keep."""
        if self._kept is not None:
            yield from self._kept
            return
        ends = [first for first, _ in self.starts[1:]] + [self.images]
        for (first, column), end in zip(self.starts, ends, strict=True):
            where = slice(first, end)
            yield _part(self.network, self.pixels[:, where], self.labels[where], first, column, self.settings)


def reduce(
    network: Network,
    pixels: Array,
    labels: Index,
    settings: ScoreSettings,
    *,
    slice_size: int | None = None,
    kept_numbers: int = KEPT_NUMBERS,
) -> Reduction:
    """The scoring set in score space.

    Args:
        network: the lowered network.
        pixels: [inputs, images].
        labels: [images].
        settings: gate semantics, radius and pixel range are read.
        slice_size: images treated at once; by default as many as keep a slice's largest value in a few megabytes.
        kept_numbers: how many numbers of gates may stay in memory between passes.

    Raises:
        InvalidBounds: see `bounds.propagate`.
    """
    largest = max(network.inputs, *(node.size for node in network.nodes))
    size = slice_size or int(np.clip(SLICE_NUMBERS // largest, 1, SLICE_IMAGES))
    gated = sum(_numbers(node.op, node.size) for node in network.nodes)
    keep = gated * len(labels) <= kept_numbers
    column, undecided = network.score_count, 0
    starts, parts = [], []
    for first in range(0, len(labels), size):
        where = slice(first, first + size)
        part = _part(network, pixels[:, where], labels[where], first, column, settings)
        starts.append((first, column))
        undecided += sum(len(w.value) for w in part.waiting.values())
        column += sum(len(w.value) + int((w.phase >= 0).sum()) for w in part.waiting.values())
        if keep:
            parts.append(part)
    return Reduction(
        network, pixels, labels, settings, tuple(starts), column, undecided, _known(network), _spread(network),
        tuple(parts) if keep else None,
    )  # fmt: skip


def _numbers(op: object, size: int) -> int:
    """How many numbers the gate of one image holds."""
    match op:
        case Relu():
            return 5 * size
        case MaxPool(windows):
            return 4 * windows.size
        case _:
            return 0


def _known(network: Network) -> frozenset[str]:
    fixed = {INPUT}
    for node in network.nodes:
        if isinstance(node.op, (Affine, Add)) and fixed.issuperset(node.sources):
            fixed.add(node.name)
    known: set[str] = set()
    for node in reversed(network.nodes):
        readers = [reader for reader in network.nodes if node.name in reader.sources]
        if (
            node.name in fixed
            and readers
            and all(r.name in known or isinstance(r.op, (Relu, MaxPool)) for r in readers)
        ):
            known.add(node.name)
    return frozenset(known)


def _spread(network: Network) -> dict[str, csr_array]:
    made = {}
    for node in network.nodes:
        if isinstance(node.op, (Relu, Shift)):
            acted = np.flatnonzero(node.op.score >= 0)
            entries = (np.ones(len(acted)), (node.op.score[acted], acted))
            made[node.name] = csr_array(entries, shape=(network.score_count, node.size))
    return made


def gates(
    network: Network, pixels: Array, settings: ScoreSettings
) -> tuple[dict[str, Gate | PoolGate], dict[str, Array]]:
    """The gate of each ReLU and max-pool node and what it reads in the unpruned network, for pixels [inputs, n]."""
    point = Box(pixels, pixels)
    nominal = propagate(network, point, valid=False)
    boxes = nominal
    if settings.radius > 0 or settings.gate == "exact":
        box = input_box(pixels, settings.radius, settings.pixel_range)
        boxes = propagate(network, box, valid=settings.gate == "exact")
    made: dict[str, Gate | PoolGate] = {}
    for node in network.nodes:
        match node.op:
            case Relu():
                made[node.name] = relu_gate(settings.gate, node.op, boxes[node.source], nominal[node.source].lower)
            case MaxPool():
                made[node.name] = pool_gate(settings.gate, node.op, boxes[node.source])
            case _:
                pass
    return made, {name: nominal[network.node(name).source].lower for name in made}


def _part(
    network: Network, pixels: Array, labels: Index, first: int, column: int, settings: ScoreSettings
) -> ReducedImages:
    made, nominal = gates(network, pixels, settings)
    waiting = {}
    for node in network.nodes:
        if node.name in made and made[node.name].undecided.any():
            there = node.op.windows >= 0 if isinstance(node.op, MaxPool) else np.ones((node.size, 1), dtype=bool)
            waiting[node.name], column = _waiting(made[node.name].undecided, there, column)
    return ReducedImages(first, pixels, labels, made, nominal, waiting)


def _waiting(undecided: np.ndarray, there: np.ndarray, column: int) -> tuple[Waiting, int]:
    """Columns for the undecided activations of a node, image after image: first their values, then their phases."""
    image, activation = np.nonzero(undecided.T)
    value = column + np.arange(len(image))
    phases = there[activation]
    phase = np.full(phases.shape, -1)
    phase[phases] = column + len(image) + np.arange(int(phases.sum()))
    column_of = np.full(undecided.shape, -1)
    column_of[activation, image] = value
    return Waiting(activation, image, value, phase, column_of), column + len(image) + int(phases.sum())
