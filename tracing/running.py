"""Running a traced graph in part: some of its nodes, from known values, with other values for some readers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from tracing.graph import Graph, TracedNode


@dataclass(frozen=True, eq=False)
class Instead:
    """What some readers of a node get in place of its value: `made(value)`, computed once.

    A node may have several, each for readers of its own.
    """

    made: Callable[[Tensor], Tensor]
    readers: frozenset[TracedNode]


def run(
    graph: Graph,
    values: Mapping[TracedNode, Any],
    *,
    keep: Collection[TracedNode],
    nodes: Sequence[TracedNode] | None = None,
    instead: Mapping[TracedNode, Sequence[Instead]] | None = None,
) -> dict[TracedNode, Any]:
    """Run a traced graph in part: the values of the nodes of `keep`, as they were made.

    What reads a kept value may write over copies only.

    Args:
        graph: of the module whose calls are run.
        values: tensors known beforehand, such as {graph.inputs[0]: images}; the forward may write over them.
        keep: nodes to return.
        nodes: those to compute, in the graph's order; every one by default.
        instead: by node, what some of its readers get in place of it.

    Returns:
        What each node of `keep` that was computed makes, mostly a tensor [n, ...].
    """
    interpreter = _Interpreter(graph, values, instead or {})
    computed = [node for node in (graph.nodes if nodes is None else nodes) if node not in values]
    last = {source: node for node in computed for source in node.sources}
    kept = {}
    for node in computed:
        made = interpreter.made(node)
        if node in keep:
            kept[node] = made
            made = made.clone() if isinstance(made, Tensor) else made
        interpreter.values[node] = made
        for source in node.sources:
            if last[source] is node:
                interpreter.forget(source)
    return kept


class _Interpreter(fx.Interpreter):
    """Computes calls from values of nodes."""

    def __init__(
        self, graph: Graph, values: Mapping[TracedNode, Any], instead: Mapping[TracedNode, Sequence[Instead]]
    ) -> None:
        super().__init__(graph.module, garbage_collect_values=False)
        self.values, self.instead = dict(values), instead
        self.nodes = {node.call: node for node in graph.nodes}
        self.others: dict[TracedNode, dict[Instead, Any]] = {}
        self.args_iter = iter(())  # inputs that are not known beforehand have their defaults

    def made(self, node: TracedNode) -> Any:
        assert node.call is not None, "every node of a graph has its call"
        return self.run_node(node.call)

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Detached values are the same ones, and whoever differentiates what is run asks for their derivatives too."""
        if target is torch.detach or (target is getattr and args[1:] == ("data",)):
            return next(iter((*args, *kwargs.values())))
        return super().call_function(target, args, kwargs)

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """As `call_function`."""
        return args[0] if target in ("detach", "detach_") else super().call_method(target, args, kwargs)

    def forget(self, node: TracedNode) -> None:
        self.values.pop(node, None)
        self.others.pop(node, None)

    def map_nodes_to_values(self, args: Any, n: fx.Node) -> Any:
        reader = self.nodes[n]
        return fx.map_arg(args, lambda call: self._read(self.nodes[call], reader))

    def _read(self, node: TracedNode, reader: TracedNode) -> Any:
        found = (each for each in self.instead.get(node, ()) if reader in each.readers)
        if (other := next(found, None)) is None:
            return self.values[node]
        made = self.others.setdefault(node, {})
        if other not in made:
            made[other] = other.made(self.values[node])
        return made[other]
