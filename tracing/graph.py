"""Traced graph: the calls that a torch module makes of its images, their shapes, and who reads whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import Tensor, fx, nn

from tracing.errors import UnfitExample
from tracing.ops import INPUT, LINEAR, Op

TracedModule: TypeAlias = fx.GraphModule


@dataclass(frozen=True, eq=False)
class TracedNode:
    """One value of a traced module: an input, a constant, what a call makes, or the output.

    Attributes:
        name: its own in the graph.
        op: the family of what makes it; `tracing.ops.UNKNOWN` where the table has none.
        kind: what makes it, as torch names it: the layer's class, the function, the method.
        target: the qualified name of the layer that is called, or of the parameter or buffer that a constant is.
        layer: the layer that is called, None elsewhere.
        given: the call's arguments by the op's names; a value that depends on the images is its node, any other is as
            it was on the example.
        surplus: names of arguments that the op does not have.
        sources: the nodes that it reads, each once.
        shape: on the example, with the batch; None where it is not one tensor, or where the example did not get so far.
        live: whether it depends on the images' values.
        value: what it is, where it is not live.
        known: whether `value` is what it is: not live, and the example got so far.
        axes: of the pixels that the call acts over; 0 where its spelling does not say.
        in_place: whether the call writes over what it reads.
        call: the call as torch.fx has it, for this room alone.
    """

    name: str
    op: Op
    kind: str
    target: str = ""
    layer: nn.Module | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    surplus: tuple[str, ...] = ()
    sources: tuple[TracedNode, ...] = ()
    shape: tuple[int, ...] | None = None
    live: bool = True
    value: Any = None
    known: bool = False
    axes: int = 0
    in_place: bool = False
    call: fx.Node | None = field(default=None, repr=False)

    def argument(self, name: str) -> Any:
        """One argument: as the call gives it, as the layer holds it, or the op's default."""
        if name in self.given:
            return self.given[name]
        default = self.op.parameters[name]
        return default if self.layer is None else getattr(self.layer, name, default)

    @property
    def where(self) -> str:
        """Name and kind for a message."""
        return f"{self.name!r} ({self.kind})"

    @property
    def live_sources(self) -> tuple[TracedNode, ...]:
        """Those of the sources that depend on the images."""
        return tuple(source for source in self.sources if source.live)


@dataclass(frozen=True, eq=False)
class Graph:
    """A module in evaluation mode as the calls it makes, without those that nothing uses.

    Attributes:
        nodes: each after its sources, the output last.
        module: computes the same; its layers are those of the traced module themselves, under their names.
        users: of each node those that read its values; asking for its shape is no reading.
        failure: why the example did not get through; empty where it did.
        attentions: by name, the attention layers of torch whose heads are followed: their parts are called instead.
    """

    nodes: tuple[TracedNode, ...]
    module: TracedModule
    users: Mapping[TracedNode, tuple[TracedNode, ...]]
    failure: str = ""
    attentions: Mapping[str, nn.MultiheadAttention] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[TracedNode, ...]:
        """The arguments of the module's forward; the images are the first."""
        return tuple(node for node in self.nodes if node.op is INPUT)

    @property
    def output(self) -> TracedNode:
        return self.nodes[-1]

    def calls(self, *kinds: Op) -> dict[str, list[TracedNode]]:
        """The calls of layers of these ops, by the layers' qualified names."""
        found: dict[str, list[TracedNode]] = {}
        for node in self.nodes:
            if node.layer is not None and node.op in kinds:
                found.setdefault(node.target, []).append(node)
        return found

    def attention_of(self, node: TracedNode) -> str:
        """The name of the attention layer whose queries, keys and values a call projects; empty for any other."""
        if node.op is not LINEAR or node.layer is not None:
            return ""
        targets = {source.target for source in node.sources if not source.live}
        return next((name for name in self.attentions if f"{name}.in_proj_weight".lstrip(".") in targets), "")

    def before(self, node: TracedNode, start: TracedNode | None = None) -> set[TracedNode]:
        """All that a node is made of, without itself; what makes `start` is not looked for."""
        found: set[TracedNode] = set()
        waiting = list(node.sources)
        while waiting:
            each = waiting.pop()
            if each not in found:
                found.add(each)
                waiting += each.sources if each is not start else ()
        return found

    def after(self, nodes: Iterable[TracedNode]) -> set[TracedNode]:
        """The nodes and all that is made of them."""
        found = set(nodes)
        for node in self.nodes:
            if not found.isdisjoint(node.sources):
                found.add(node)
        return found

    def holders(self, weight: Tensor | None) -> list[str]:
        """The qualified names of the parameters that are this very tensor."""
        named = self.module.named_parameters(remove_duplicate=False)
        return [name for name, value in named if value is weight]

    def fitting(self) -> Graph:
        """The graph itself; raises UnfitExample where the example did not get through."""
        if self.failure:
            raise UnfitExample(self.failure)
        return self
