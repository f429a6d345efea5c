"""Forward and backward through a slice of the scoring set in score space.

At a point (scores and the undecided activations' values) the *forward* sweep gives the value of every form: logits and
rows. Forms are affine, so the *backward* sweep of weights on them gives their coefficients, one row at a time, without
a form ever being written out: with a the weight on a value,

    y = W h + b          a_h += W' a_y
    h = y - (1 - s) cap  a_y += a_h,  coefficient of s += cap a_h      open
    h = 0                nothing                                       closed
    h = its own column   coefficient of the column += a_h              undecided

and a form's constant is its value less its coefficients times the point.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from scipy.sparse import coo_array, csr_array, hstack

from formulation.gates import NO_PICK, OPEN, Gate, PoolGate
from formulation.network import INPUT, Add, Affine, Array, Index, MaxPool, Network, Relu, Shift, per_activation
from formulation.reduction import ReducedImages, Reduction


@dataclass(frozen=True, eq=False)
class Trace:
    """What a forward sweep of a slice found.

    Attributes:
        logits: [classes, images].
        read: per gated node what it reads: y of a ReLU, the inputs of a max-pool, [activations, images].
        rows: per gated node the value its `lower` and `upper` speak of, in their shape: h where a ReLU is open and y
            elsewhere; h_pick - h_j of a max-pool's windows.
    """

    logits: Array
    read: Mapping[str, Array]
    rows: Mapping[str, Array]


def forward(reduction: Reduction, part: ReducedImages, point: Array, *, follow: bool = False) -> Trace:
    """Values of a slice's forms at a point [columns].

    With `follow` the point's own values of undecided activations are not read but written: h = max(0, y - (1 - s) cap),
    open = 1 where h > 0; a window's output is its maximum, and the first input that attains it is picked.
    """
    network = reduction.network
    scores = point[: reduction.scores]
    values: dict[str, Array] = {INPUT: part.pixels}
    read, rows = {}, {}
    for node in network.nodes:
        if node.name in reduction.known:
            continue
        if node.name in part.gates:
            known = node.source in reduction.known
            read[node.name] = part.nominal[node.name] if known else values[node.source]
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
            case Relu(score):
                gate = relu_gate_of(part, node.name)
                gated = sources[0] - (1 - per_activation(scores, score))[:, None] * gate.cap
                is_open = gate.state == OPEN
                rows[node.name] = np.where(is_open, gated, sources[0])
                values[node.name] = np.where(is_open, gated, 0.0)
                _undecided_relus(part, node.name, gated, values[node.name], point, follow)
            case MaxPool(windows):
                pool = pool_gate_of(part, node.name)
                rows[node.name], values[node.name] = _decided_windows(pool, windows, sources[0])
                _undecided_windows(part, node.name, windows, sources[0], values[node.name], point, follow)
            case _:
                assert_never(node.op)
    return Trace(values[network.nodes[-1].name], read, rows)


def relu_gate_of(part: ReducedImages, name: str) -> Gate:
    """The decisions of a ReLU in a slice."""
    gate = part.gates[name]
    assert isinstance(gate, Gate)
    return gate


def pool_gate_of(part: ReducedImages, name: str) -> PoolGate:
    """The decisions of a max-pool in a slice."""
    gate = part.gates[name]
    assert isinstance(gate, PoolGate)
    return gate


def _undecided_relus(part: ReducedImages, name: str, gated: Array, values: Array, point: Array, follow: bool) -> None:
    if name not in part.waiting:
        return
    waiting = part.waiting[name]
    at = (waiting.activation, waiting.image)
    if follow:
        point[waiting.value] = np.maximum(gated[at], 0.0)
        point[waiting.phase[:, 0]] = gated[at] > 0
    values[at] = point[waiting.value]


def _decided_windows(gate: PoolGate, windows: Index, h: Array) -> tuple[Array, Array]:
    """h_pick - h_j of every window, and h_pick, 0 where undecided."""
    decided = gate.pick != NO_PICK
    picked = np.take_along_axis(h, _picked(gate.pick, windows), axis=0)
    differences = np.where((windows >= 0)[:, :, None] & decided[:, None], picked[:, None] - h[windows], 0.0)
    return differences, np.where(decided, picked, 0.0)


def _picked(pick: Index, windows: Index) -> Index:
    """The input that each window picks, [outputs, images]; any input where undecided."""
    found: Index = np.take_along_axis(windows, np.maximum(pick, 0), axis=1)
    return np.maximum(found, 0)


def _undecided_windows(
    part: ReducedImages, name: str, windows: Index, h: Array, values: Array, point: Array, follow: bool
) -> None:
    if name not in part.waiting:
        return
    waiting = part.waiting[name]
    if follow:
        members = windows[waiting.activation]
        inputs = np.where(members >= 0, h[members, waiting.image[:, None]], -np.inf)
        best = np.argmax(inputs, axis=1)
        point[waiting.value] = inputs[np.arange(len(best)), best]
        point[waiting.phase[waiting.phase >= 0]] = 0.0
        point[waiting.phase[np.arange(len(best)), best]] = 1.0
    values[waiting.activation, waiting.image] = point[waiting.value]


def backward(reduction: Reduction, part: ReducedImages, weights: dict[str, Array], image: Index) -> csr_array:
    """Coefficients [rows, columns] of weighted sums of a slice's values.

    Args:
        reduction, part: the scoring set and the slice.
        weights: per value (a node's name) the weight of each activation in each row, [activations, rows]; consumed.
        image: the image, within the slice, that each row is about.
    """
    rows = len(image)
    on_scores = np.zeros((reduction.scores, rows))
    own: list[tuple[Index, Index, Array]] = []
    for node in reversed(reduction.network.nodes):
        a = weights.pop(node.name, None)
        if a is None:
            continue
        match node.op:
            case Affine(weight):
                if node.source != INPUT:  # the product is most of the work, and nobody reads it there
                    _send(weights, node.source, weight.T @ a)
            case Add():
                for source in node.sources:
                    _send(weights, source, a)
            case Shift(_, amount):
                on_scores += reduction.spread[node.name] @ (amount[:, None] * a)
                _send(weights, node.source, a)
            case Relu():
                gate = relu_gate_of(part, node.name)
                own += _own_columns(part, node.name, a, image)
                is_open = gate.state == OPEN
                cap = np.where(is_open, gate.cap, 0.0)
                on_scores += reduction.spread[node.name] @ (np.take(cap, image, axis=1) * a)
                if not _reads_input(reduction.network, node.source):
                    _send(weights, node.source, np.where(np.take(is_open, image, axis=1), a, 0.0))
            case MaxPool(windows):
                own += _own_columns(part, node.name, a, image)
                pick = pool_gate_of(part, node.name).pick[:, image]
                chosen = np.where(pick == NO_PICK, 0.0, a)
                back = np.zeros((reduction.network.size(node.source), rows))
                np.add.at(back, (_picked(pick, windows), np.arange(rows)[None, :]), chosen)
                _send(weights, node.source, back)
            case _:
                assert_never(node.op)
    on_own = _assembled(own, (rows, reduction.columns - reduction.scores), reduction.scores)
    shared = csr_array(on_scores.T)
    return csr_array(hstack([shared, on_own], format="csr"))


def _reads_input(network: Network, value: str) -> bool:
    """Whether a value is the input, or an affine map of it: a constant, whose weights nobody reads."""
    while value != INPUT and isinstance(network.node(value).op, Affine):
        value = network.node(value).source
    return value == INPUT


def _send(weights: dict[str, Array], value: str, a: Array) -> None:
    if value != INPUT:
        weights[value] = weights[value] + a if value in weights else a


def nominal_rows(part: ReducedImages, network: Network, name: str) -> Array:
    """The value of each row of a gated node in the unpruned network, where every row holds."""
    op, nominal = network.node(name).op, part.nominal[name]
    if isinstance(op, MaxPool):
        return _decided_windows(pool_gate_of(part, name), op.windows, nominal)[0]
    return nominal


def _own_columns(part: ReducedImages, name: str, a: Array, image: Index) -> list[tuple[Index, Index, Array]]:
    """(row, column, coefficient) of the undecided activations of a node that carry a weight."""
    if name not in part.waiting:
        return []
    column = part.waiting[name].column[:, image]
    activation, row = np.nonzero((column >= 0) & (a != 0))
    return [(row, column[activation, row], a[activation, row])]


def _assembled(own: list[tuple[Index, Index, Array]], shape: tuple[int, int], offset: int) -> csr_array:
    if not own:
        return csr_array(shape)
    row, column, data = (np.concatenate(each) for each in zip(*own, strict=True))
    return csr_array(coo_array((data, (row, column - offset)), shape=shape))
