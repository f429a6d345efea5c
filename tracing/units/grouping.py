"""Unit groups: channels that a residual sum or a depthwise convolution ties together are one unit.

A unit's way is followed as long as each operation keeps units apart and maps 0 to 0: BatchNorm and depthwise
convolutions (made to), ReLU, pools, dropout, flatten, concatenation, a constant factor, sums of units of one group. It
ends at layers that read it, and at sums with other values: a unit that emits 0 leaves the other summands as they are.

A group bears the name of its first layer. Its *gate* is one number per unit for the whole group: s multiplies what
the unit hands on where its ways end, so that at s = 0 nobody reads it and at s = 1 nothing is changed. Where one ReLU
alone reads a layer that nothing ties, the gate may as well lie at that ReLU.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from tracing import ops
from tracing.errors import Unfollowable
from tracing.graph import Graph, TracedNode
from tracing.units.layouts import Ties, find_ties
from tracing.units.op_rules import is_norm, is_relu, is_weighted, joined, span_after, weighs
from tracing.units.positions import End, Reader, ends_way, positions_after, shape_of

BENT = (ops.LEAKY_RELU, ops.RELU6, ops.PRELU, ops.HARDTANH, ops.CLAMP, ops.CLAMP_BELOW)


@dataclass(frozen=True, eq=False)
class UnitGroup:
    """Units that are kept or removed as one, and their way through the network.

    Attributes:
        name: of the first layer that makes them, in the order of the calls.
        units: how many there are.
        rows: where they lie in what the layers make, those of the first one first: sums tie the others to it. An
            attention head has rows of queries, keys and values.
        depthwise: the depthwise convolutions on the way; their inputs and their outputs lie alike, as a BatchNorm's.
        norms: the BatchNorms on the way.
        readers: the layers that read them, with their columns.
        ends: where the ways end; a gate on a unit multiplies what is handed on there.
        gate: the ReLU that alone reads the group's only layer; None where there is none, or several layers.
        summed: a way ends in a sum with other values, in a function with weights or where units are laid out anew:
            every unit needs its own place.
        axis: of every value on the way, along which the units lie: 1, or -1 for those on tokens.
    """

    name: str
    units: int
    rows: tuple[Reader, ...]
    depthwise: tuple[Reader, ...]
    norms: tuple[Reader, ...]
    readers: tuple[Reader, ...]
    ends: tuple[End, ...]
    gate: TracedNode | None
    summed: bool
    axis: int = 1

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that make them, the first one first."""
        return tuple(dict.fromkeys(each.layer for each in self.rows))

    @property
    def members(self) -> tuple[str, ...]:
        """The names of all layers whose outputs the units are."""
        return (*self.layers, *dict.fromkeys(each.layer for each in self.depthwise))

    @property
    def coupled(self) -> bool:
        """Whether no ReLU stands for the group: its gate then lies where the ways end."""
        return self.gate is None


@dataclass(frozen=True, eq=False)
class UnitGroups:
    """The units of a graph's Linear and convolution layers.

    Attributes:
        groups: by name, in the order of the calls.
        owner: of every layer the name of the group that has its units; layers whose units cannot be followed have none.
        reasons: of these layers, why.
    """

    groups: Mapping[str, UnitGroup]
    owner: Mapping[str, str]
    reasons: Mapping[str, str]

    def joined_with(self, others: UnitGroups) -> UnitGroups:
        """These and others, whose layers have no groups here: what is said of them there goes before."""
        reasons = {name: why for name, why in self.reasons.items() if name not in others.owner}
        return UnitGroups(
            {**self.groups, **others.groups}, {**self.owner, **others.owner}, {**reasons, **others.reasons}
        )


def unit_groups(graph: Graph) -> UnitGroups:
    """The groups of units of a graph whose example got through.

    A tie is given up, with all others of its group, where the group cannot be followed to layers that read it; each of
    the layers is then a group of its own, whose way ends in the sum.

    Args:
        graph: of the whole module.

    Returns:
        Every layer is in a group or has a reason.
    """
    untied: set[TracedNode] = set()
    while True:
        ties = find_ties(graph, untied)
        found: dict[str, UnitGroup] = {}
        reasons = {
            name: f"layer {name!r} is called {len(calls)} times: shared layers cannot be pruned; use two"
            for name, calls in graph.calls(ops.LINEAR, ops.CONVOLUTION).items()
            if len(calls) > 1
        }
        given_up: set[TracedNode] = set()
        for layers in ties.groups:
            tying = {node for node, tied in ties.layers.items() if not tied.isdisjoint(layers)}
            try:
                found[layers[0]] = _followed(graph, ties, layers, tied=bool(tying))
            except Unfollowable as error:
                given_up |= tying
                reasons |= dict.fromkeys(layers, str(error))
        if not given_up:
            owner = {layer: name for name, group in found.items() for layer in group.members}
            return UnitGroups(found, owner, reasons)
        untied |= given_up


def why_ungated(graph: Graph, node: TracedNode) -> str:
    """Why no ReLU alone gates the units of the layer that a node calls; empty where one does.

    Args:
        graph: of the whole module.
        node: calls a Linear or convolution layer.
    """
    while True:
        using = graph.users[node]
        if len(using) != 1:
            return f"{node.name!r} is read by {len(using)} operations"
        source, (node,) = node, using
        if is_relu(node):
            return ""
        if node.op in BENT or (joined(node) is None and span_after(source, node) is None):
            return f"{node.where} reads them first"


def _followed(graph: Graph, ties: Ties, layers: Sequence[str], *, tied: bool) -> UnitGroup:
    calls = {name: call for name, (call, *_) in graph.calls(ops.LINEAR, ops.CONVOLUTION).items()}
    starts = [calls[name] for name in layers]
    ungated = why_ungated(graph, starts[0])
    way = Way(graph, layers[0], ties.layers, positions_after)
    for start in starts:
        way.require_own_weight(start)
        way.require_own_bias(start)
    way.walk(starts)
    coupled = tied or bool(ungated)
    if coupled and way.summed:
        raise Unfollowable(
            f"layer {layers[0]!r} is gated by no ReLU: {ungated or 'others are tied to it'}, and its units end in a "
            f"sum with values that are no units of one group, in a shift from 0 or where they are laid out anew, so "
            f"they cannot be removed"
        )
    return UnitGroup(
        name=layers[0],
        units=shape_of(starts[0])[1],
        rows=tuple(Reader(name, 1) for name in layers),
        depthwise=tuple(dict.fromkeys(way.depthwise)),
        norms=tuple(dict.fromkeys(way.norms)),
        readers=tuple(dict.fromkeys(way.readers)),
        ends=tuple(way.ends),
        gate=None if coupled else _relu_behind(graph, starts[0]),
        summed=way.summed,
    )


def _relu_behind(graph: Graph, node: TracedNode) -> TracedNode:
    while not is_relu(node):
        (node,) = graph.users[node]
    return node


class Way:
    """Follows the units of some layers from value to value: what is on their way, and where it ends."""

    def __init__(
        self,
        graph: Graph,
        layer: str,
        ties: Collection[TracedNode],
        after: Callable[..., Iterator[Reader]],
        ends: Callable[[TracedNode, TracedNode], bool] = ends_way,
    ) -> None:
        self.graph, self.layer, self.ties, self.after, self.ends_way = graph, layer, ties, after, ends
        self.depthwise: list[Reader] = []
        self.norms: list[Reader] = []
        self.readers: list[Reader] = []
        self.ends: list[End] = []
        self.summed = False
        self.calls = graph.calls(ops.LINEAR, ops.CONVOLUTION, ops.BATCH_NORM)
        self.constants = [node for node in graph.nodes if node.op is ops.CONSTANT]

    def walk(self, starts: Sequence[TracedNode], span: int = 1) -> None:
        """Follow the units from the calls that make them, as so many entries each."""
        # Where the units are, and how they lie there.
        pending = [(start, Reader(start.target or start.name, span)) for start in starts]
        seen = set(pending)
        while pending:
            source, lying = pending.pop(0)
            for node in self.graph.users[source]:
                self._require_alone(source, node)
                if node not in self.ties and self.ends_way(source, node):
                    self.summed = True
                    self.ends.append(End(source, node, lying))
                for here in self.after(self.layer, source, node, lying, self.ties):
                    if not self._ends_at(source, node, lying, here) and (node, here) not in seen:
                        seen.add((node, here))
                        pending.append((node, here))

    def _ends_at(self, source: TracedNode, node: TracedNode, lying: Reader, here: Reader) -> bool:
        """Keep account of a layer on the way; whether the way ends there."""
        if is_norm(node):
            self.require_called_once(node)
            self.norms.append(here)
        if not is_weighted(node):
            return False
        self.require_called_once(node)
        self.require_own_weight(node)
        if node in self.ties:
            self.depthwise.append(here)
            return False
        self.readers.append(here)
        self.ends.append(End(source, node, lying))
        return True

    def _require_alone(self, source: TracedNode, node: TracedNode) -> None:
        # An op that the table does not know has no names for what it reads.
        written = node.argument("input") if "input" in node.op.parameters else source
        if node.in_place and written is source and len(self.graph.users[source]) > 1:
            raise Unfollowable(
                f"layer {self.layer!r}: {node.where} writes over {source.name!r}, which other operations read too; use "
                f"inplace=False"
            )

    def require_called_once(self, node: TracedNode) -> None:
        """Raise Unfollowable where another call of the layer would be cut as well."""
        calls = self.calls[node.target]
        if len(calls) > 1:
            raise Unfollowable(
                f"layer {node.target!r} is called {len(calls)} times: shared layers cannot be pruned; use two"
            )

    def require_own_bias(self, touched: TracedNode) -> None:
        """Raise Unfollowable where other layers hold the bias too: they would lose the removed units' entries."""
        assert touched.layer is not None, "only layers are cut"
        bias = touched.layer.bias
        names = self.graph.holders(bias if isinstance(bias, Tensor) else None)
        if len(names) > 1:
            raise Unfollowable(
                f"layer {self.layer!r}: the bias of {touched.target!r} is shared by {' and '.join(names)}, so its "
                f"units cannot be cut; give it its own bias"
            )

    def require_own_weight(self, touched: TracedNode) -> None:
        """Raise Unfollowable unless the weight is a parameter of this one layer: only then zeroing rows is exact."""
        assert touched.layer is not None, "only layers are cut"
        weight = dict(touched.layer.named_parameters(recurse=False)).get("weight")
        names = self.graph.holders(weight)
        reads = [node.name for node in self.constants if node.target in names and weighs(self.graph, node)]
        if weight is None or len(names) > 1 or reads:
            how = "computed from other parameters" if weight is None else f"shared by {' and '.join((*names, *reads))}"
            raise Unfollowable(
                f"layer {self.layer!r}: the weight of {touched.target!r} is {how}, so its units cannot be cut; "
                f"give it its own weight"
            )
