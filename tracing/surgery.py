"""Surgery on traced modules: a part between two of its values, and a layer put behind one."""

from __future__ import annotations

from torch import fx, nn

from tracing.graph import Graph, TracedModule, TracedNode


def part(graph: Graph, start: TracedNode, end: TracedNode, *, name: str) -> TracedModule:
    """The calls of a graph that make one node of another, as a module; its layers are the graph's own.

    Args:
        graph: of the whole module; constants are held by every part that reads them.
        start: what the part reads, [n, ...]; it must be all else that `end` is made of.
        end: what the part makes.
        name: of the part's class.

    Returns:
        A module that takes the value of `start` and returns that of `end`.
    """
    made = fx.Graph()
    assert start.call is not None, "every node of a graph has its call"
    copies = {start.call: made.placeholder("values")}
    needed = graph.before(end, start) | {end}
    for node in graph.nodes:
        if node in needed and node is not start and node.call is not None:
            copies[node.call] = made.node_copy(node.call, copies.__getitem__)
    assert end.call is not None, "every node of a graph has its call"
    made.output(copies[end.call])
    return fx.GraphModule(graph.module, made, class_name=name)


def followed_by(module: TracedModule, layer: nn.Module, *, child: str, name: str) -> TracedModule:
    """The traced module with a layer behind its result.

    Args:
        module: one that makes a single tensor; it is left as it was, and shares its layers with the new one.
        layer: reads that tensor.
        child: the layer's name in the new module.
        name: of the new module's class.

    Returns:
        A module that computes layer(module(x)).
    """
    graph = fx.Graph()
    made = graph.graph_copy(module.graph, {})
    assert isinstance(made, fx.Node), "the module makes one tensor"
    whole = fx.GraphModule(module, graph, class_name=name)
    whole.add_submodule(child, layer)
    graph.output(graph.call_module(child, (made,)))
    whole.recompile()
    return whole
