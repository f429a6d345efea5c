"""Jacobians of the scoring set, computed once where they fit: `linear` then needs no further pass of its network.

`pattern` has the same logits and holds them too, for its loss cuts; its other cuts take passes.

Direct effects: the scores of first units change the affine maps that first read them, split by unit.
Units that read nothing but constants have derivatives by their own score alone, d = cap where active, and pools
and depthwise maps keep it so. What the first affine map W behind them makes of it is, for each unit u,

    T_u = W[:, columns of u] d[columns of u]

so weights a on the map's values give the coefficients sum_q a_q T_uq. T takes one product with W, whatever the number
of sums; sending the weights back through W takes one for each, which is most of a pass through convolutions.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array

from formulation.deadline import NEVER, Deadline
from formulation.network import INPUT, Affine, Array, ChannelGate, Index, MaxPool, Network, Node, Relu
from formulation.relaxation.first_order import Effects, FirstOrder
from formulation.relaxation.gates import ACTIVE, picked_members
from formulation.relaxation.propagation import backward_to_scores, forward
from formulation.relaxation.reduction import ReducedBatch, Reduction, pool_gate_of, relu_gate_of

HELD_NUMBERS = 2**27  # numbers of Jacobians held, a gigabyte
# A Jacobian takes a pass backwards for each class, a search about so many in all: with more classes passes are cheaper.
MOST_CLASSES = 50
EFFECT_NUMBERS = 2**23  # numbers of T for one map and batch
MIXED = -2


@dataclass(frozen=True, eq=False)
class SplitMap:
    """An affine map split by the units whose scores act on its columns.

    Attributes:
        units: numbers of their scores, [k].
        matrix: [k * rows, columns], unit after unit.
    """

    units: Index
    matrix: csr_array


def with_jacobians(
    reduction: Reduction,
    *,
    held_numbers: int = HELD_NUMBERS,
    most_classes: int = MOST_CLASSES,
    deadline: Deadline = NEVER,
) -> Reduction:
    """The same program, its logits held to first order: values and coefficients are dense products.

    Of `pattern` that is the logits alone: its cuts still need passes. It is left as it is for any other gate, and where
    the Jacobians would not pay or not fit; of `pattern` also where its gates are made again in every pass.

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
    cuts = reduction.settings.gate == "pattern"  # whose passes read the gates, which are then held too
    holds = reduction.settings.gate == "linear" or (cuts and reduction.is_kept)
    if not holds or numbers > held_numbers or classes > most_classes:
        return reduction
    made, longest = [], 0.0
    split = split_maps(reduction.network, reduction.largest_batch)
    for batch in reduction.batches:
        deadline.require(f"the derivatives of image {batch.first + 1} of {reduction.images}", longest)
        started = time.monotonic()
        expanded = _expanded(reduction, batch, split)
        made.append(replace(batch, first_order=expanded) if cuts else batch.with_logits_alone(expanded))
        longest = max(longest, time.monotonic() - started)
    return replace(reduction, _kept=tuple(made))


def _expanded(reduction: Reduction, batch: ReducedBatch, split: Mapping[str, SplitMap]) -> FirstOrder:
    network, last = reduction.network, reduction.network.nodes[-1]
    whole = network.differentiable
    if whole is not None:
        # what all logits of an image share changes no cross-entropy
        margins = reduction.settings.loss == "cross_entropy"
        logits, jacobian = whole.passes.jacobian(batch.pixels, margins=margins)
        return FirstOrder(logits, _of_scores(jacobian, whole.score, reduction.scores))
    found, effects = np.empty((batch.images, network.classes, reduction.scores)), effects_of(network, split, batch)
    for label in range(network.classes):
        seeds = np.zeros((network.classes, batch.images))
        seeds[label] = 1.0
        found[:, label] = backward_to_scores(reduction, batch, {last.name: seeds}, effects)
    return FirstOrder(forward(reduction, batch, np.ones(reduction.columns)).logits, found)


def _of_scores(jacobian: Array, score: Index, count: int) -> Array:
    """Derivatives by the scores, [images, classes, scores], from those by the gates; one gate a score."""
    if np.array_equal(score, np.arange(count)):
        return jacobian
    return np.ascontiguousarray(jacobian[:, :, np.argsort(score)[-count:]])


def own_units(network: Network) -> dict[str, Index]:
    """Per value that depends on constants and one score an activation at most: that score's number, -1 for none."""
    constant: set[str] = {INPUT}
    found: dict[str, Index] = {}
    for node in network.nodes:
        match node.op:
            case Affine() if node.source in constant:
                constant.add(node.name)
            case Relu(score) | ChannelGate(score) if node.source in constant:
                found[node.name] = score
            case Affine(weight) if node.source in found and isinstance(weight, csr_array):
                _keep(found, node, _of_rows(weight, found[node.source]))
            case MaxPool(windows) if node.source in found:
                some = windows.max(axis=1, keepdims=True)  # padding has no unit
                members = found[node.source][np.where(windows >= 0, windows, some)]
                _keep(found, node, np.where((members == members[:, :1]).all(axis=1), members[:, 0], MIXED))
            case _:
                pass
    return found


def _keep(found: dict[str, Index], node: Node, units: Index) -> None:
    if not (units == MIXED).any():
        found[node.name] = units


def _of_rows(weight: csr_array, units: Index) -> Index:
    """The unit that each row reads, MIXED where they are several."""
    read, terms = units[weight.indices], np.diff(weight.indptr)
    if not terms.all():
        return np.full(len(terms), MIXED)
    least, most = (extreme.reduceat(read, weight.indptr[:-1]) for extreme in (np.minimum, np.maximum))
    made: Index = np.where(least == most, least, MIXED)
    return made


def split_maps(network: Network, images: int) -> dict[str, SplitMap]:
    """The affine maps of which effects are cheaper than passes back for every class, by their nodes.

    Args:
        network: lowered.
        images: of a batch at most.
    """
    own = own_units(network)
    made: dict[str, SplitMap] = {}
    for node in network.nodes:
        if not isinstance(node.op, Affine) or node.name in own or node.sources[0] not in own:
            continue
        weight, units = node.op.weight, own[node.source]
        there = np.unique(units[units >= 0])
        rows = len(there) * node.size
        if isinstance(weight, np.ndarray) or not rows or rows * images > EFFECT_NUMBERS:
            continue
        if weight.nnz + network.classes * rows > network.classes * weight.nnz:
            continue  # passes back are cheaper
        row = np.repeat(np.arange(node.size), np.diff(weight.indptr))
        acted = units[weight.indices] >= 0
        place = np.searchsorted(there, units[weight.indices[acted]]) * node.size + row[acted]
        entries = (weight.data[acted], (place, weight.indices[acted]))
        made[node.name] = SplitMap(there, csr_array(entries, shape=(rows, weight.shape[1])))
    return made


def effects_of(network: Network, split: Mapping[str, SplitMap], batch: ReducedBatch) -> dict[str, Effects]:
    """What the scores add to split maps for a batch without unstable activations.

    Args:
        network: lowered.
        split: its `split_maps`.
        batch: of the scoring set.
    """
    if not split:
        return {}
    derivatives: dict[str, Array] = {}
    for name in own_units(network):
        node = network.node(name)
        match node.op:
            case Relu(score) | ChannelGate(score):
                gate = relu_gate_of(batch, name)
                derivatives[name] = np.where((gate.state == ACTIVE) & (score >= 0)[:, None], gate.cap, 0.0)
            case Affine(weight):
                derivatives[name] = weight @ derivatives[node.source]
            case MaxPool(windows):
                picked = picked_members(pool_gate_of(batch, name).pick, windows)
                derivatives[name] = np.take_along_axis(derivatives[node.source], picked, axis=0)
    made = {}
    for name, each in split.items():
        found = each.matrix @ derivatives[network.node(name).source]
        made[name] = Effects(each.units, found.reshape(len(each.units), -1, batch.images))
    return made
