"""Places operations into a network, and keeps account of which units pass which ReLU.

A layer is scored if each of its units passes exactly one ReLU that alone reads its pre-activations. On the way there
whatever else reads them, or mixes them with others, takes the layer out, and the reason is kept. Layers that are
*coupled* (tied by sums or depthwise convolutions, or read otherwise than by one ReLU) are scored as groups instead, by
channel gates where their units are handed on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

import numpy as np
from scipy.sparse import csr_array, diags_array

from formulation.errors import InvalidModel, UnsupportedLayer
from formulation.lowering.values import Bent, Joined, Made, Scaling, Units, Value
from formulation.network import (
    INPUT,
    Add,
    Affine,
    Array,
    ChannelGate,
    Index,
    Layer,
    MaxPool,
    Network,
    Node,
    Op,
    Relu,
    Shift,
    renumbered,
)

NAMED = 5  # layers that a refusal names, at most


@dataclass(frozen=True)
class Group:
    """Units that are scored as one: the layers that make or carry them, the first of which names it."""

    name: str
    members: tuple[str, ...]


@dataclass(frozen=True)
class GroupLayout:
    """Where a group's units lie along the channels of a value: unit j is `span` of them, from offset + j span on."""

    group: str
    span: int
    offset: int


@dataclass(frozen=True)
class Candidate:
    """A layer that makes units; they are numbered from `first` on."""

    layer: Layer
    first: int
    refusal: str

    @property
    def end(self) -> int:
        return self.first + self.layer.units


class Assembly:
    """A network in the making.

    `coupled`: by layer the group that has its units; other layers are scored by the ReLU behind them, but for those of
    `unfit`, whose units cannot be removed for the reasons there.
    """

    def __init__(
        self, shape: tuple[int, ...], coupled: Mapping[str, Group] | None = None, unfit: Mapping[str, str] | None = None
    ) -> None:
        self.coupled, self.unfit = coupled or {}, unfit or {}
        size = int(np.prod(shape))
        self.inputs = size
        self.input = Value(INPUT, shape, np.full(size, -1), np.zeros(size, dtype=bool))
        self.nodes: dict[str, Node] = {}
        self.candidates: list[Candidate] = []
        self.unscored: dict[str, str] = {}

    def shared(self, source: Value, readers: Sequence[str]) -> Value:
        """The value as one of several readers takes it: no ReLU reads its pre-activations alone."""
        reason = f"its pre-activations are read by {len(readers)} operations: {', '.join(readers[:NAMED])}"
        return replace(self._taken_out(source, reason), single=False)

    def place(self, name: str, source: Value, made: Made) -> Value:
        """The value that an operation makes of another."""
        match made.op:
            case Bent():
                return self._bent(name, source, made.op)
            case Scaling():
                return self._scaled(name, source, made.op)
            case Relu():
                return self._gated(name, source)
            case Affine() | MaxPool():
                return self._carried(name, source, made)
            case _:
                assert_never(made.op)

    def add(self, name: str, sources: Sequence[Value]) -> Value:
        """The sum of values of one shape; behind it no activation belongs to one unit."""
        shape = sources[0].shape
        if any(source.shape != shape for source in sources):
            shapes = " and ".join(str(source.shape) for source in sources)
            raise UnsupportedLayer(f"'{name}' adds {shapes}; only values of one shape can be added")
        for source in sources:
            self._taken_out(source, f"'{name}' adds its pre-activations to others before a ReLU")
        size = len(sources[0].unit)
        node = self._node(name, Add(), tuple(source.node for source in sources), size)
        return Value(node, shape, np.full(size, -1), np.zeros(size, dtype=bool))

    def joined(self, name: str, made: Joined) -> Value:
        """The values of several, each of them in its places among the results: placed into zeros, and added."""
        total, placed = int(np.prod(made.shape)), []
        if len(made.values) == 1 and len(made.values[0].unit) == total:
            return replace(made.values[0], shape=made.shape)
        unit, gated, offset = np.full(total, -1), np.zeros(total, dtype=bool), made.constants
        for k, (source, place) in enumerate(zip(made.values, made.places, strict=True), start=1):
            size = len(source.unit)
            matrix = csr_array((np.ones(size), (place, np.arange(size))), shape=(total, size))
            placed.append(self._node(f"{name}#{k}", Affine(matrix, offset), (source.node,), total))
            unit[place], gated[place], offset = source.unit, source.gated, np.zeros(total)
        node = placed[0] if len(placed) == 1 else self._node(name, Add(), tuple(placed), total)
        return Value(node, made.shape, unit, gated)

    def handed_on(self, name: str, source: Value, lying: Sequence[GroupLayout]) -> Value:
        """What the layers read to which units of groups are handed on: each channel times its unit's score."""
        score = np.full((source.shape[0], len(source.unit) // source.shape[0]), -1)
        for each in lying:
            owner = next(candidate for candidate in self.candidates if candidate.layer.name == each.group)
            numbers = np.repeat(np.arange(owner.first, owner.end), each.span)
            score[each.offset : each.offset + len(numbers)] = numbers[:, None]
        node = self._node(f"{name}#gate", ChannelGate(score.ravel()), (source.node,), score.size)
        return replace(source, node=node, single=False)

    def finish(self, out: Value) -> Network:
        """The network whose logits are `out`: what they need, and scores for the layers whose ReLU is among it.

        Raises InvalidModel where there is none.
        """
        nodes = self._needed(out.node)
        used = {int(j) for node in nodes if isinstance(node.op, Relu | ChannelGate) for j in np.unique(node.op.score)}
        position, layers, first = np.full(self._units + 1, -1), [], 0  # the last entry is that of -1
        outputs = self._waiting(out)  # they carry no score
        ends = np.unique(out.unit[out.gated])  # nor do those that a ReLU behind the last layer gates
        for candidate in self.candidates:
            name = candidate.layer.name
            if ((ends >= candidate.first) & (ends < candidate.end)).any():
                self.unscored[name] = "its units are the network's outputs"
            elif used.issuperset(range(candidate.first, candidate.end)):
                position[candidate.first : candidate.end] = np.arange(first, first + candidate.layer.units)
                layers.append(candidate.layer)
                first += candidate.layer.units
            elif name not in self.unscored and candidate not in outputs:
                self.unscored[name] = "its units do not reach the logits"
        if not layers:
            raise InvalidModel(f"nothing to score: {self._reasons()}")
        return Network(tuple(renumbered(node, position) for node in nodes), tuple(layers), self.inputs, self.unscored)

    def _reasons(self) -> str:
        if not self.unscored:
            return "the model has no Linear or Conv layer followed by a ReLU; put a ReLU behind the layers to score"
        named = [f"'{name}': {reason}" for name, reason in list(self.unscored.items())[:NAMED]]
        more = len(self.unscored) - len(named)
        return "; ".join(named) + (f"; and {more} more" if more else "")

    @property
    def _units(self) -> int:
        return self.candidates[-1].end if self.candidates else 0

    def _needed(self, last: str) -> list[Node]:
        """The nodes that the last one depends on, in order."""
        wanted = {last}
        for node in reversed(self.nodes.values()):
            if node.name in wanted:
                wanted.update(node.sources)
        return [node for node in self.nodes.values() if node.name in wanted]

    def _node(self, name: str, op: Op, sources: tuple[str, ...], size: int) -> str:
        """A new node; its name is the given one, or that with a number where it is taken."""
        free, count = name, 1
        while free in self.nodes or free == INPUT:  # one ReLU or pool module may serve several layers
            count += 1
            free = f"{name}#{count}"
        self.nodes[free] = Node(free, op, sources, size)
        return free

    def _carried(self, name: str, source: Value, made: Made) -> Value:
        """Affine maps and max-pools: they make units, carry those of the source on, or mix them."""
        assert isinstance(made.op, Affine | MaxPool)
        size = int(np.prod(made.shape))
        node = self._node(name, made.op, (source.node,), size)
        if made.origin is None or (made.origin < 0).any():
            source = self._taken_out(source, f"'{name}' reads its pre-activations before a ReLU")
        if made.layer is not None:
            return Value(node, made.shape, self._born(made.layer), np.zeros(size, dtype=bool))
        origin = np.full(size, -1) if made.origin is None else made.origin
        return Value(node, made.shape, np.where(origin < 0, -1, source.unit[origin]), source.gated[origin])

    def _born(self, units: Units) -> Index:
        group = self.coupled.get(units.layer)
        first, others = self._units, () if group is None else group.members[1:]
        if group is None or group.name == units.layer:
            layer = Layer(units.layer, int(units.index.max()) + 1, units.kernel, others)
            self.candidates.append(Candidate(layer, first, units.refusal or self.unfit.get(units.layer, "")))
        return first + units.index if group is None else np.full(len(units.index), -1)

    def _gated(self, name: str, source: Value) -> Value:
        """A ReLU: the scores of the units that wait for one act on it."""
        for candidate in self._waiting(source):
            if candidate.refusal:
                source = self._taken_out(source, candidate.refusal, only=candidate)
        score = np.where(source.waiting, source.unit, -1)
        node = self._node(name, Relu(score), (source.node,), len(score))
        return Value(node, source.shape, source.unit, source.unit >= 0)

    def _bent(self, name: str, source: Value, op: Bent) -> Value:
        """A piecewise linear function of each activation, as a sum of ReLUs that no score gates."""
        source = self._taken_out(source, f"'{name}' is no ReLU, so no score gates it; with a ReLU there it is scored")
        size = len(source.unit)
        parts = []
        if op.slope.any() or op.constant.any():
            line = Affine(csr_array(diags_array(op.slope)), op.constant)
            parts.append(self._node(f"{name}#line", line, (source.node,), size))
        for k, (at, weight) in enumerate(op.kinks, start=1):
            shifted = Affine(csr_array(diags_array(np.ones(size))), -at)
            below = self._node(f"{name}#{k}.at", shifted, (source.node,), size)
            cut = self._node(f"{name}#{k}.relu", Relu(np.full(size, -1)), (below,), size)
            weighted = Affine(csr_array(diags_array(weight)), np.zeros(size))
            parts.append(self._node(f"{name}#{k}", weighted, (cut,), size))
        node = parts[0] if len(parts) == 1 else self._node(name, Add(), tuple(parts), size)
        kept = source.unit if op.keeps_zero else np.full(size, -1)
        return replace(source, node=node, unit=kept, single=True)

    def _scaled(self, name: str, source: Value, op: Scaling) -> Value:
        """Constants per activation: in the affine map before them, in one of their own, or a shift behind a gate."""
        behind = source.gated & (source.unit >= 0) & (op.shift != 0)
        shift = op.shift if not behind.any() else np.zeros_like(op.shift)
        if (op.scale != 1).any() or shift.any():
            source = self._folded(name, source, op.scale, shift)
        if behind.any():
            score = np.where(behind, source.unit, -1)
            node = self._node(f"{name}#shift", Shift(score, op.shift), (source.node,), len(score))
            source = replace(source, node=node, single=True)
        return source

    def _folded(self, name: str, source: Value, scale: Array, shift: Array) -> Value:
        before = self.nodes.get(source.node)
        if source.single and before is not None and isinstance(before.op, Affine):
            weight = before.op.weight
            scaled = scale[:, None] * weight if isinstance(weight, np.ndarray) else _rows_scaled(weight, scale)
            self.nodes[before.name] = replace(before, op=Affine(scaled, scale * before.op.bias + shift))
            return source
        op = Affine(csr_array(diags_array(scale)), shift)
        return replace(source, node=self._node(name, op, (source.node,), len(scale)), single=True)

    def _waiting(self, source: Value) -> list[Candidate]:
        units = source.unit[source.waiting]
        return [each for each in self.candidates if ((units >= each.first) & (units < each.end)).any()]

    def _taken_out(self, source: Value, reason: str, only: Candidate | None = None) -> Value:
        """The value without the units that wait for a ReLU, or those of one layer: they are not scored."""
        out = source.waiting
        for candidate in self._waiting(source) if only is None else [only]:
            self.unscored.setdefault(candidate.layer.name, reason)
        if only is not None:
            out &= (source.unit >= only.first) & (source.unit < only.end)
        return replace(source, unit=np.where(out, -1, source.unit))


def _rows_scaled(matrix: csr_array, scale: Array) -> csr_array:
    each = np.repeat(scale, np.diff(matrix.indptr))
    return csr_array((matrix.data * each, matrix.indices, matrix.indptr), shape=matrix.shape)
