"""Forward and backward through a batch of the scoring set in score space.

At a point (scores and the unstable activations' values) the *forward* pass gives the value of every form: logits and
cuts. Forms are affine, so the *backward* pass of weights on them gives their coefficients, one cut at a time, without
a form ever being written out: with a the weight on a value,

    y = W h + b          a_h += W' a_y
    h = y - (1 - s) cap  a_y += a_h,  coefficient of s += cap a_h      active
    h = 0                nothing                                       inactive
    h = its own column   coefficient of the column += a_h              unstable

and a form's constant is its value less its coefficients times the point. Where a batch holds its logits to first order
(`first_order`), or the network is one that can only be differentiated, the logits are the only form there is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, hstack

from formulation.network import (
    INPUT,
    Add,
    Affine,
    Array,
    ChannelGate,
    Differentiable,
    Index,
    MaxPool,
    Network,
    Relu,
    Shift,
    per_activation,
)
from formulation.relaxation.first_order import Effects
from formulation.relaxation.gates import ACTIVE, NO_PICK, PoolGate, picked_members
from formulation.relaxation.reduction import ReducedBatch, Reduction, pool_gate_of, relu_gate_of


@dataclass(frozen=True, eq=False)
class Trace:
    """What a forward pass of a batch found.

    Attributes:
        logits: [classes, images].
        read: per gated node what it reads: y of a ReLU, the inputs of a max-pool, [activations, images].
        cut_values: per gated node the value its `lower` and `upper` speak of, in their shape: h where a ReLU is active
            and y elsewhere; h_pick - h_j of a max-pool's windows.
    """

    logits: Array
    read: Mapping[str, Array]
    cut_values: Mapping[str, Array]


def forward(reduction: Reduction, batch: ReducedBatch, point: Array, *, follow: bool = False) -> Trace:
    """Values of a batch's forms at a point.

    With `follow` the point's own values of unstable activations are not read but written: h = max(0, y - (1 - s) cap),
    open = 1 where h > 0; a window's output is its maximum, and the first input that attains it is picked.

    Args:
        reduction: the scoring set in score space.
        batch: the batch of it.
        point: [columns]: scores, then the values of unstable activations; changed with `follow`.
        follow: write the unstable activations' values instead of reading them.
    """
    network = reduction.network
    scores = point[: reduction.scores]
    if batch.first_order is not None and not batch.gates:
        return Trace(batch.first_order.at(scores), {}, {})
    values: dict[str, Array] = {INPUT: batch.pixels}
    read, cut_values = {}, {}
    for node in network.nodes:
        if node.name in reduction.known:
            continue
        if node.name in batch.gates:
            known = node.source in reduction.known
            read[node.name] = batch.nominal[node.name] if known else values[node.source]
            sources = [read[node.name]]
        else:
            sources = [values[name] for name in node.sources]
        match node.op:
            case Affine():
                values[node.name] = node.op.apply(*sources)
            case Add():
                values[node.name] = np.sum(sources, axis=0)
            case Shift(score, amount):
                values[node.name] = sources[0] + (amount * per_activation(scores, score))[:, None]
            case Relu(score) | ChannelGate(score):
                gate = relu_gate_of(batch, node.name)
                gated = sources[0] - (1 - per_activation(scores, score))[:, None] * gate.cap
                is_open = gate.state == ACTIVE
                cut_values[node.name] = np.where(is_open, gated, sources[0])
                values[node.name] = np.where(is_open, gated, 0.0)
                _unstable_relus(batch, node.name, gated, values[node.name], point, follow)
            case MaxPool(windows):
                pool = pool_gate_of(batch, node.name)
                cut_values[node.name], values[node.name] = _stable_windows(pool, windows, sources[0])
                _unstable_windows(batch, node.name, windows, sources[0], values[node.name], point, follow)
            case Differentiable(score, passes):
                values[node.name] = passes.along(sources[0], per_activation(scores, score) - 1)
            case _:
                assert_never(node.op)
    return Trace(values[network.nodes[-1].name], read, cut_values)


def _unstable_relus(batch: ReducedBatch, name: str, gated: Array, values: Array, point: Array, follow: bool) -> None:
    if name not in batch.unstable:
        return
    unstable = batch.unstable[name]
    at = (unstable.activation, unstable.image)
    if follow:
        point[unstable.value] = np.maximum(gated[at], 0.0)
        point[unstable.phase[:, 0]] = gated[at] > 0
    values[at] = point[unstable.value]


def _stable_windows(gate: PoolGate, windows: Index, h: Array) -> tuple[Array, Array]:
    """h_pick - h_j of every window, and h_pick, 0 where unstable."""
    stable = gate.pick != NO_PICK
    picked = np.take_along_axis(h, picked_members(gate.pick, windows), axis=0)
    differences = np.where((windows >= 0)[:, :, None] & stable[:, None], picked[:, None] - h[windows], 0.0)
    return differences, np.where(stable, picked, 0.0)


def _unstable_windows(
    batch: ReducedBatch, name: str, windows: Index, h: Array, values: Array, point: Array, follow: bool
) -> None:
    if name not in batch.unstable:
        return
    unstable = batch.unstable[name]
    if follow:
        members = windows[unstable.activation]
        inputs = np.where(members >= 0, h[members, unstable.image[:, None]], -np.inf)
        best = np.argmax(inputs, axis=1)
        point[unstable.value] = inputs[np.arange(len(best)), best]
        point[unstable.phase[unstable.phase >= 0]] = 0.0
        point[unstable.phase[np.arange(len(best)), best]] = 1.0
    values[unstable.activation, unstable.image] = point[unstable.value]


def backward(reduction: Reduction, batch: ReducedBatch, weights: dict[str, Array], image: Index) -> csr_array:
    """Coefficients [sums, columns] of weighted sums of a batch's values.

    Args:
        reduction, batch: the scoring set and the batch of it.
        weights: per value (a node's name) the weight of each activation in each sum, [activations, sums]; consumed.
        image: the image, within the batch, that each sum is about.
    """
    last = reduction.network.nodes[-1].name
    if batch.first_order is not None and set(weights) == {last}:
        return csr_array(batch.first_order.pulled(weights[last], image))
    on_scores, own = _sent_back(reduction, batch, weights, image, {})
    on_own = _assembled(own, (len(image), reduction.columns - reduction.scores), reduction.scores)
    return csr_array(hstack([csr_array(on_scores.T), on_own], format="csr"))


def backward_in_all(reduction: Reduction, batch: ReducedBatch, weights: dict[str, Array]) -> Array:
    """Coefficients [columns] of the sum over the images of a batch of weighted sums of their values.

    Args:
        reduction, batch: the scoring set and the batch of it.
        weights: per value the weight of each activation in each image's sum, [activations, images]; consumed.
    """
    made, last = np.zeros(reduction.columns), reduction.network.nodes[-1].name
    if batch.first_order is not None and set(weights) == {last}:
        made[: reduction.scores] = batch.first_order.summed(weights[last], np.zeros(batch.images, dtype=np.int64))[0]
        return made
    on_scores, own = _sent_back(reduction, batch, weights, np.arange(batch.images), {})
    made[: reduction.scores] = on_scores.sum(axis=1)
    for _, column, coefficient in own:
        np.add.at(made, column, coefficient)
    return made


def backward_to_scores(
    reduction: Reduction, batch: ReducedBatch, weights: dict[str, Array], effects: Mapping[str, Effects]
) -> Array:
    """Coefficients [images, scores] of one weighted sum of values for each image of a batch where nothing is unstable.

    Args:
        reduction, batch: the scoring set and the batch of it.
        weights: per value the weight of each activation in each image's sum, [activations, images]; consumed.
        effects: of the batch; weights on their maps are sent back no further.
    """
    return _sent_back(reduction, batch, weights, np.arange(batch.images), effects)[0].T


def _sent_back(
    reduction: Reduction,
    batch: ReducedBatch,
    weights: dict[str, Array],
    image: Index,
    effects: Mapping[str, Effects],
) -> tuple[Array, list[tuple[Index, Index, Array]]]:
    """Coefficients of scores [scores, sums], and (row, column, coefficient) of unstable activations' columns."""
    sums, every = len(image), np.array_equal(image, np.arange(batch.images))

    def of_sums(values: NDArray[Any]) -> NDArray[Any]:
        """Of [activations, images] the image of each sum, [activations, sums]."""
        return values if every else np.take(values, image, axis=1)

    on_scores = np.zeros((reduction.scores, sums))
    own: list[tuple[Index, Index, Array]] = []
    for node in reversed(reduction.network.nodes):
        a = weights.pop(node.name, None)
        if a is None:
            continue
        match node.op:
            case Affine() if node.name in effects:
                effects[node.name].add_to(on_scores, a)
            case Affine(weight):
                if node.source != INPUT:  # the product is most of the work, and nobody reads it there
                    _send(weights, node.source, weight.T @ a)
            case Add():
                for source in node.sources:
                    _send(weights, source, a)
            case Shift(_, amount):
                on_scores += reduction.spread[node.name] @ (amount[:, None] * a)
                _send(weights, node.source, a)
            case Relu() | ChannelGate():
                gate = relu_gate_of(batch, node.name)
                own += _own_columns(batch, node.name, a, image)
                is_open = gate.state == ACTIVE
                through = np.where(of_sums(is_open), a, 0.0)
                on_scores += reduction.spread[node.name] @ (of_sums(gate.cap) * through)
                if not _reads_input(reduction.network, node.source):
                    _send(weights, node.source, through)
            case MaxPool(windows):
                own += _own_columns(batch, node.name, a, image)
                pick = of_sums(pool_gate_of(batch, node.name).pick)
                chosen = np.where(pick == NO_PICK, 0.0, a)
                back = np.zeros((reduction.network.size(node.source), sums))
                np.add.at(back, (picked_members(pick, windows), np.arange(sums)[None, :]), chosen)
                _send(weights, node.source, back)
            case Differentiable(_, passes):
                on_scores += reduction.spread[node.name] @ passes.pulled(batch.pixels[:, image], a)[1].T
            case _:
                assert_never(node.op)
    return on_scores, own


def _reads_input(network: Network, value: str) -> bool:
    """Whether a value is the input, or an affine map of it: a constant, whose weights nobody reads."""
    while value != INPUT and isinstance(network.node(value).op, Affine):
        value = network.node(value).source
    return value == INPUT


def _send(weights: dict[str, Array], value: str, a: Array) -> None:
    if value != INPUT:
        weights[value] = weights[value] + a if value in weights else a


def nominal_gate_inputs(batch: ReducedBatch, network: Network, name: str) -> Array:
    """The value of each cut of a gated node in the unpruned network, where every cut holds.

    Args:
        batch: of the scoring set.
        network: the lowered one.
        name: the gated node's.

    Returns:
        In the shape of the gate's `lower`, the images of the batch last.
    """
    op, nominal = network.node(name).op, batch.nominal[name]
    if isinstance(op, MaxPool):
        return _stable_windows(pool_gate_of(batch, name), op.windows, nominal)[0]
    return nominal


def _own_columns(batch: ReducedBatch, name: str, a: Array, image: Index) -> list[tuple[Index, Index, Array]]:
    """(row, column, coefficient) of the unstable activations of a node that carry a weight."""
    if name not in batch.unstable:
        return []
    column = batch.unstable[name].map((len(a), batch.images))[:, image]
    activation, row = np.nonzero((column >= 0) & (a != 0))
    return [(row, column[activation, row], a[activation, row])]


def _assembled(own: list[tuple[Index, Index, Array]], shape: tuple[int, int], offset: int) -> csr_array:
    if not own:
        return csr_array(shape)
    row, column, data = (np.concatenate(each) for each in zip(*own, strict=True))
    return csr_array(coo_array((data, (row, column - offset)), shape=shape))
