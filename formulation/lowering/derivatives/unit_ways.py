"""Ways of units through a traced network, from the layer that makes them to whatever mixes them: there a gate acts.

A unit is removed when it hands on exactly 0. Its gate is a factor on what it hands on, behind its activation function
and whatever still keeps it apart: for ReLU, GELU or SiLU, which map 0 to 0, that is the network whose unit has no
weights and no bias; for a sigmoid it is the one in which nobody reads the unit. Behind a norm over several units
(GroupNorm, LayerNorm) a removed unit still counts in the statistics of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from formulation.lowering.derivatives.unit_layouts import IMAGES, UnitLayout, lying_after, lying_joined
from formulation.network import NO_UNIT, Layer
from tracing import WEIGHTED, Graph, TracedNode, ops, tried_together

ARITHMETIC = (ops.ADD, ops.SUBTRACT, ops.MULTIPLY, ops.DIVIDE)
SOFTMAXES = ("softmax", "Softmax", "Softmax2d")


@dataclass(frozen=True)
class Maker:
    """A layer that makes units, numbered from `first` on."""

    layer: Layer
    first: int

    @property
    def end(self) -> int:
        return self.first + self.layer.units


@dataclass(frozen=True, eq=False)
class Ways:
    """The ways of units from layers to what mixes them.

    Attributes:
        makers: by name, the layers whose units can each have a gate behind an activation function.
        ends: by value where ways end: how units lie in it, and which of its readers end them.
        unscored: why other layers' units cannot; the output layer is none of them.
        scaled: the layers whose units go through a product or quotient with other values.
    """

    makers: Mapping[str, Maker]
    ends: Mapping[TracedNode, tuple[UnitLayout, frozenset[TracedNode]]]
    unscored: Mapping[str, str]
    scaled: frozenset[str]


def unit_ways(graph: Graph, logits: TracedNode) -> Ways:
    """The ways of the units of every Linear and convolution through an activation function towards the logits.

    Args:
        graph: traced on `IMAGES` images.
        logits: the node that makes them.
    """
    ways = _Ways(graph, logits)
    for node in graph.nodes:
        if node in ways.wanted and node.live and node.op is not ops.INPUT:
            ways.follow(node)
    return ways.finished(logits)


class _Ways:
    """The ways as far as they have been followed."""

    def __init__(self, graph: Graph, logits: TracedNode) -> None:
        self.graph, self.wanted = graph, graph.before(logits) | {logits}
        self.lying: dict[TracedNode, UnitLayout] = {}
        self.makers: list[Maker] = []
        self.refused: dict[str, str] = {}
        self.scaled: set[str] = set()
        self.ends: dict[TracedNode, set[TracedNode]] = {}

    def follow(self, node: TracedNode) -> None:
        """One node behind its sources: which units it carries on, and which ways end in it.

        A call that carries on some of the units of a value ends the ways of all of them: each has one gate on each of
        its ways.
        """
        sources = [source for source in node.live_sources if source in self.lying]
        made = self._weighted(node) if node.layer is not None and node.op in (ops.LINEAR, ops.CONVOLUTION) else None
        carried = None if made is not None or not sources else self._carried(node, sources)
        on = set() if carried is None else carried.units
        ended = [source for source in sources if not self.lying[source].units <= on]
        if any(self.lying[source].units & on for source in ended):
            carried, ended = None, sources
        for source in ended:
            self._end(source, node)
        found = carried if made is None else made
        if found is not None and (found.unit != NO_UNIT).any():
            self.lying[node] = found

    def _weighted(self, node: TracedNode) -> UnitLayout | None:
        layer = node.layer
        shape = node.shape
        if not isinstance(layer, WEIGHTED) or shape is None:
            return None
        axis = len(shape) - 1 if node.op is ops.LINEAR else 1
        name, units = node.target, shape[axis]
        reason = self._unfit(node, name, shape)
        if reason:
            self.refused.setdefault(name, reason)
            return None
        first = self.makers[-1].end if self.makers else 0
        kernel = 1 if node.op is ops.LINEAR else int(np.prod(layer.weight.shape[2:]))
        self.makers.append(Maker(Layer(name, units, kernel), first))
        return UnitLayout(axis, np.arange(first, first + units), np.zeros(units, dtype=bool))

    def _unfit(self, node: TracedNode, name: str, shape: tuple[int, ...]) -> str:
        calls = self.graph.calls(ops.LINEAR, ops.CONVOLUTION)[name]
        if len(calls) > 1:
            return f"it is called {len(calls)} times: its units serve several places at once"
        holders = self.graph.holders(node.layer.weight if isinstance(node.layer, WEIGHTED) else None)
        if len(holders) > 1:
            return f"its weight is shared by {' and '.join(holders)}"
        if shape[0] != IMAGES or len(shape) < 2:
            return f"it makes {shape} of {IMAGES} images: the batch does not come first"
        return ""

    def _carried(self, node: TracedNode, sources: list[TracedNode]) -> UnitLayout | None:
        if node.shape is None:
            return None  # several values, such as the parts of one: a gate acts on a tensor
        if node.op is ops.CONCATENATE:
            parts = node.argument("tensors")
            return lying_joined(node, parts, self.lying) if isinstance(parts, list | tuple) else None
        if len(node.live_sources) == 1:
            lying = self.lying[sources[0]]
            if node.kind in SOFTMAXES and node.shape == sources[0].shape:
                return lying.behind_an_activation()
            return lying_after(node, sources[0], lying)
        if node.op in ARITHMETIC and len(node.live_sources) == 2 and not node.surplus:
            return self._combined(node)
        if node.op is ops.UNKNOWN:
            return self._together(node)
        return None

    def _together(self, node: TracedNode) -> UnitLayout | None:
        """Behind a call that takes each entry of several values of the same units alone, as where(y > 0, y, a y)."""
        lyings = [self.lying.get(source) for source in node.live_sources]
        first = lyings[0]
        if first is None or not all(first.same_places(each) for each in lyings):
            return None
        return None if tried_together(node, first.axis) is None else first.behind_an_activation()

    def _combined(self, node: TracedNode) -> UnitLayout | None:
        """Behind arithmetic of two values: units go on where both are of the same, or where one scales the other."""
        left, right = (node.argument(name) for name in ("input", "other"))
        there = [side for side in (left, right) if side in self.lying and side.shape == node.shape]
        if len(there) == 2 and self.lying[left].same_places(self.lying[right]):
            acted = self.lying[left].acted | self.lying[right].acted
            return UnitLayout(self.lying[left].axis, self.lying[left].unit, acted)
        if node.op is ops.DIVIDE:
            there = [side for side in there if side is left]
        if node.op in (ops.ADD, ops.SUBTRACT) or not there:
            return None
        carrier = max(there, key=lambda side: bool(self.lying[side].acted.all()))
        for side in (left, right):
            if side is not carrier and side in self.lying:
                self._refuse(self.lying[side], f"its units scale those of others in '{node.name}', and go with these")
        self.scaled |= {maker.layer.name for maker in self._makers_in(self.lying[carrier])}
        return self.lying[carrier]

    def _end(self, source: TracedNode, node: TracedNode) -> None:
        lying = self.lying[source]
        self.ends.setdefault(source, set()).add(node)
        before = UnitLayout(lying.axis, np.where(lying.acted, NO_UNIT, lying.unit), lying.acted)
        self._refuse(before, f"{node.where} reads its units before any activation function")

    def _refuse(self, lying: UnitLayout, reason: str) -> None:
        for maker in self._makers_in(lying):
            self.refused.setdefault(maker.layer.name, reason)

    def _makers_in(self, lying: UnitLayout) -> list[Maker]:
        units = lying.unit[lying.unit != NO_UNIT]
        return [each for each in self.makers if ((units >= each.first) & (units < each.end)).any()]

    def finished(self, logits: TracedNode) -> Ways:
        """All layers whose units have a gate on each of their ways."""
        outputs = set()
        if (last := self.lying.get(logits)) is not None:
            outputs = {maker.layer.name for maker in self._makers_in(last)}
        ended = np.concatenate([np.zeros(0, np.int64), *(self.lying[source].unit for source in self.ends)])
        unscored = {name: reason for name, reason in self.refused.items() if name not in outputs}
        makers = {}
        for maker in self.makers:
            name = maker.layer.name
            if name in outputs or name in unscored:
                continue
            if np.isin(np.arange(maker.first, maker.end), ended).all():
                makers[name] = maker
            else:
                unscored[name] = "its units do not all reach the logits"
        for name in self.graph.calls(ops.LINEAR, ops.CONVOLUTION):
            if name not in {*outputs, *unscored, *makers}:
                unscored[name] = "its units do not reach the logits"
        ends = {source: (self.lying[source], frozenset(readers)) for source, readers in self.ends.items()}
        return Ways(makers, ends, unscored, frozenset(self.scaled))
