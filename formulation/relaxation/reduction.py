"""The scoring set in score space: what is stable needs no variables, what is unstable keeps its own columns.

Every activation of every image is an affine form of the program's columns: first all scores, then the columns of the
unstable activations and windows. Layer after layer,

    y = W h + b          an affine map of forms is a form, and so is a sum or a shift
    h = y - (1 - s) cap  active: the unit's own score enters
    h = 0                inactive
    h = its own column   unstable
    out = h_pick         stable window;  out = its own column where unstable

so the logits, and every cut of the program, are forms in a few hundred columns instead of hundreds of thousands of
variables. No form is ever stored: `propagation` reads values off forwards and coefficients backwards, batch after
batch of the scoring set, so memory grows with the images and the columns, not with their activations.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy.sparse import csr_array

from formulation.deadline import NEVER, Deadline
from formulation.network import (
    INPUT,
    Add,
    Affine,
    Array,
    ChannelGate,
    Differentiable,
    Labels,
    MaxPool,
    Network,
    Relu,
    Shift,
    Unstable,
    with_relu_gates,
)
from formulation.relaxation.bounds import Box, input_box, propagate
from formulation.relaxation.first_order import FirstOrder
from formulation.relaxation.gates import Gate, PoolGate, handed_on, pool_gate, relu_gate
from formulation.score_settings import ScoreSettings
from naming import FIRST_ORDER

BATCH_NUMBERS = 2**20  # activations times images held at once by the largest value of a batch
BATCH_IMAGES = 128
KEPT_NUMBERS = 2**25  # numbers in gates kept between passes; beyond it they are made again in every pass


@dataclass(frozen=True, eq=False)
class ReducedBatch:
    """A batch of the scoring set: the image `first` and those after it.

    Attributes:
        gates: phases, picks and bounds of each ReLU and max-pool node.
        nominal: what each of these nodes reads in the unpruned network, [activations, images].
        unstable: the columns of each node with unstable activations, images counted within the batch.
        first_order: the logits as a whole where they are held; of `linear` gates and nominal values are empty then.
    """

    first: int
    pixels: Array
    labels: Labels
    gates: Mapping[str, Gate | PoolGate]
    nominal: Mapping[str, Array]
    unstable: Mapping[str, Unstable]
    first_order: FirstOrder | None = None

    @property
    def images(self) -> int:
        return len(self.labels)

    def with_logits_alone(self, logits: FirstOrder) -> ReducedBatch:
        """The batch with logits to first order, and no gate."""
        return replace(self, gates={}, nominal={}, first_order=logits)

    @property
    def where(self) -> slice:
        """Its place among all images."""
        return slice(self.first, self.first + self.images)


def relu_gate_of(batch: ReducedBatch, name: str) -> Gate:
    """The phases and bounds of a ReLU in a batch.

    Args:
        batch: of the scoring set.
        name: the ReLU's.
    """
    gate = batch.gates[name]
    assert isinstance(gate, Gate)
    return gate


def pool_gate_of(batch: ReducedBatch, name: str) -> PoolGate:
    """The picks and bounds of a max-pool in a batch.

    Args:
        batch: of the scoring set.
        name: the max-pool's.
    """
    gate = batch.gates[name]
    assert isinstance(gate, PoolGate)
    return gate


@dataclass(frozen=True, eq=False)
class Reduction:
    """The whole scoring set in score space.

    Attributes:
        network: the lowered network.
        pixels, labels: [inputs, images], and [images] or targets [images, outputs].
        settings: gate semantics, radius and pixel range are read.
        starts: first image and first unstable column of each batch.
        columns: number of all columns; the scores come first.
        unstable: number of unstable activations and windows.
        known: nodes of the pixels alone that only gates read: `ReducedImages.nominal` holds their values.
        spread: per node on which scores act, the matrix [scores, activations] that sums activations by unit; of a
            network that is only differentiated, [scores, gates].
    """

    network: Network
    pixels: Array
    labels: Labels
    settings: ScoreSettings
    starts: tuple[tuple[int, int], ...]
    columns: int
    unstable: int
    known: frozenset[str]
    spread: Mapping[str, csr_array]
    _kept: tuple[ReducedBatch, ...] | None

    @property
    def images(self) -> int:
        return len(self.labels)

    @property
    def scores(self) -> int:
        """Number of score columns; they come first."""
        return self.network.score_count

    @property
    def is_kept(self) -> bool:
        """Whether the batches stay in memory between passes."""
        return self._kept is not None

    @property
    def largest_batch(self) -> int:
        """Images of the largest batch."""
        firsts = [first for first, _ in self.starts] + [self.images]
        return max(end - first for first, end in pairwise(firsts))

    @property
    def batches(self) -> Iterator[ReducedBatch]:
        """The batches in order; made again in every pass where they are too many to keep."""
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
    labels: Labels,
    settings: ScoreSettings,
    *,
    batch_size: int | None = None,
    kept_numbers: int = KEPT_NUMBERS,
    deadline: Deadline = NEVER,
) -> Reduction:
    """The scoring set in score space.

    Args:
        network: the lowered network; its channel gates become ReLUs where the gate semantics knows no others.
        pixels: [inputs, images].
        labels: [images], or targets [images, outputs].
        settings: gate semantics, radius and pixel range are read.
        batch_size: images treated at once; by default as many as keep a batch's largest value in a few megabytes.
        kept_numbers: how many numbers of gates may stay in memory between passes.
        deadline: no batch is begun that would end behind it.

    Raises:
        InvalidBounds: see `bounds.propagate`.
        TimeLimitReached: the deadline came first.
    """
    network = network if settings.gate in FIRST_ORDER else with_relu_gates(network)
    largest = max(network.inputs, *(node.size for node in network.nodes))
    size = batch_size or int(np.clip(BATCH_NUMBERS // largest, 1, BATCH_IMAGES))
    gated = sum(_numbers(node.op, node.size) for node in network.nodes)
    keep = gated * len(labels) <= kept_numbers
    column, unstable = network.score_count, 0
    starts, batches, longest = [], [], 0.0
    for first in range(0, len(labels), size):
        if not keep and settings.gate in FIRST_ORDER:
            starts.append((first, column))  # nothing is unstable, so the gates wait for the first pass
            continue
        deadline.require(f"reducing image {first + 1} of {len(labels)}", longest)
        started, where = time.monotonic(), slice(first, first + size)
        batch = _part(network, pixels[:, where], labels[where], first, column, settings)
        starts.append((first, column))
        unstable += sum(len(each) for each in batch.unstable.values())
        column += sum(each.count for each in batch.unstable.values())
        if keep:
            batches.append(batch)
        longest = max(longest, time.monotonic() - started)
    return Reduction(
        network, pixels, labels, settings, tuple(starts), column, unstable, _known(network), _spread(network),
        tuple(batches) if keep else None,
    )  # fmt: skip


def _numbers(op: object, size: int) -> int:
    """How many numbers the gate of one image holds."""
    match op:
        case Relu() | ChannelGate():
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
            and all(r.name in known or isinstance(r.op, (Relu, MaxPool, ChannelGate)) for r in readers)
        ):
            known.add(node.name)
    return frozenset(known)


def _spread(network: Network) -> dict[str, csr_array]:
    made = {}
    for node in network.nodes:
        if isinstance(node.op, (Relu, Shift, ChannelGate, Differentiable)):
            acted = np.flatnonzero(node.op.score >= 0)
            entries = (np.ones(len(acted)), (node.op.score[acted], acted))
            made[node.name] = csr_array(entries, shape=(network.score_count, len(node.op.score)))
    return made


def gates(
    network: Network, pixels: Array, settings: ScoreSettings
) -> tuple[dict[str, Gate | PoolGate], dict[str, Array]]:
    """The gate of each ReLU and max-pool node and what it reads in the unpruned network, for pixels [inputs, n]."""
    if network.differentiable is not None:
        return {}, {}
    nominal = propagate(network, Box.at(pixels), valid=False)
    boxes = nominal
    if settings.radius > 0 or settings.gate == "exact":
        box = input_box(pixels, settings.radius, settings.pixel_range)
        boxes = propagate(network, box, valid=settings.gate == "exact")
    made: dict[str, Gate | PoolGate] = {}
    for node in network.nodes:
        match node.op:
            case Relu():
                made[node.name] = relu_gate(settings.gate, node.op, boxes[node.source], nominal[node.source].lower)
            case ChannelGate():
                made[node.name] = handed_on(nominal[node.source].lower)
            case MaxPool():
                made[node.name] = pool_gate(settings.gate, node.op, boxes[node.source])
            case _:
                pass
    return made, {name: nominal[network.node(name).source].lower for name in made}


def _part(
    network: Network, pixels: Array, labels: Labels, first: int, column: int, settings: ScoreSettings
) -> ReducedBatch:
    made, nominal = gates(network, pixels, settings)
    unstable = {}
    for node in network.nodes:
        if node.name in made and made[node.name].unstable.any():
            there = node.op.windows >= 0 if isinstance(node.op, MaxPool) else np.ones((node.size, 1), dtype=bool)
            image, activation = np.nonzero(made[node.name].unstable.T)  # image after image
            where = np.stack([activation, image], axis=1)
            unstable[node.name] = Unstable.columns(where, there[activation], column)
            column += unstable[node.name].count
    return ReducedBatch(first, pixels, labels, made, nominal, unstable)
