"""Tracer: a torch module and an example become a traced graph."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from tracing import ops, table
from tracing.attention import is_followed
from tracing.binding import bound
from tracing.errors import REFUSALS, UnfitExample, Untraceable, first_line
from tracing.graph import Graph, TracedNode
from tracing.modes import as_the_model_takes, evaluating
from tracing.records import recorded_calls
from tracing.wrappers import require_plain

# torch.fx patches nn.Module.__call__ for the whole process while it traces, and takes the patch back in order.
_ONE_AT_A_TIME = threading.RLock()


def trace(model: nn.Module, example: Tensor) -> Graph:
    """The calls that the model makes in evaluation mode, with their shapes on the example.

    The model is left as it was; other threads may call it, and any other module, meanwhile. Calls that nothing uses
    are left out, unless they write over what they read. Where the example does not get through, the graph says why
    (`Graph.failure`), and what lies behind has no shapes.

    Args:
        model: its forward must be traceable by torch.fx: no branch on values of tensors.
        example: images [n, ...] on any device and of any number type.

    Raises:
        Untraceable: torch.fx cannot trace the model, it computes something else for another number of images, or it is
            not plain (`require_plain`).
        UnfitExample: a forward that asks for shapes does not take the example.
    """
    require_plain(model)
    with _ONE_AT_A_TIME, evaluating(model), torch.no_grad():
        images = as_the_model_takes(model, example)
        try:
            module = recorded_calls(model, images)
        except (UnfitExample, Untraceable):
            raise
        except Exception as error:  # the forward is a stranger's code and may raise anything
            raise Untraceable(
                f"{type(model).__name__} cannot be traced by torch.fx ({first_line(error)}): its forward must have no "
                f"control flow that depends on values of tensors"
            ) from error
        _erase_unused(module)
        attentions = {name: each for name, each in model.named_modules() if is_followed(each)}
        return _Builder(module, images.clone(), attentions).graph()


def _erase_unused(module: fx.GraphModule) -> None:
    """Take out what nothing uses: it reads nothing."""
    for call in reversed(module.graph.nodes):
        if not call.users and call.op not in ("placeholder", "output") and not _is_in_place(module, call):
            module.graph.erase_node(call)
    module.recompile()


def _is_in_place(module: fx.GraphModule, call: fx.Node) -> bool:
    if call.op not in ("call_module", "call_function", "call_method"):
        return False
    spelling, layer = _spelled(module, call)
    given, _ = bound(spelling.op, () if layer else call.args, {} if layer else call.kwargs)
    inplace = getattr(layer, "inplace", False) if layer is not None else given.get("inplace", False)
    # Dropout changes nothing in evaluation mode.
    return spelling.in_place or (inplace is True and spelling.op is not ops.DROPOUT)


def _spelled(module: fx.GraphModule, call: fx.Node) -> tuple[table.Spelling, nn.Module | None]:
    """What a call computes, and the layer that it calls."""
    if call.op == "call_module":
        layer = module.get_submodule(str(call.target))
        return table.of_layer(layer), layer
    target: Any = call.target
    return table.of_call(target, call.args), None


class _Builder:
    """Makes nodes of torch.fx's calls one after another while the example runs through them."""

    def __init__(
        self, module: fx.GraphModule, example: Tensor, attentions: Mapping[str, nn.MultiheadAttention]
    ) -> None:
        self.module, self.failure, self.attentions = module, "", attentions
        self.interpreter = fx.Interpreter(module, garbage_collect_values=False)
        self.interpreter.args_iter = iter((example,))
        self.nodes: dict[fx.Node, TracedNode] = {}

    def graph(self) -> Graph:
        calls = list(self.module.graph.nodes)
        last = {source: call for call in calls for source in call.all_input_nodes}
        for call in calls:
            self.nodes[call] = self._node(call, self._run(call))
            for source in call.all_input_nodes:
                if last[source] is call:
                    self.interpreter.env.pop(source, None)
        return Graph(tuple(self.nodes.values()), self.module, self._users(), self.failure, self.attentions)

    def _run(self, call: fx.Node) -> Any:
        """What the call makes of the example; None once one has failed."""
        if self.failure:
            return None
        try:
            made = self.interpreter.run_node(call)
        except REFUSALS as error:
            self.failure = self._failed(call, error)
            return None
        self.interpreter.env[call] = made
        return made

    def _failed(self, call: fx.Node, error: BaseException) -> str:
        name = str(call.target) if call.op == "call_module" else call.name
        shapes = [self.nodes[source].shape for source in call.all_input_nodes]
        found = " and ".join(str(shape[1:]) for shape in shapes if shape is not None)
        return f"{name!r} does not take a value of shape {found}: {first_line(error)}; check the image size"

    def _node(self, call: fx.Node, made: Any) -> TracedNode:
        shape = tuple(made.shape) if isinstance(made, Tensor) else None
        sources = tuple(self.nodes[source] for source in call.all_input_nodes)
        layer: nn.Module | None = None
        given: dict[str, Any] = {}
        surplus: tuple[str, ...] = ()
        if call.op in ("placeholder", "get_attr"):
            op, live = (ops.INPUT, True) if call.op == "placeholder" else (ops.CONSTANT, False)
            spelling = table.Spelling(op)
        elif call.op == "output":
            spelling, given, live = table.Spelling(ops.OUTPUT), {"values": self._read(call.args[0])}, True
        else:
            spelling, layer = _spelled(self.module, call)
            named = {name: self._read(value) for name, value in call.kwargs.items()}
            given, surplus = bound(spelling.op, [self._read(value) for value in call.args], named)
            live = spelling.op is not ops.SHAPE and any(source.live for source in sources)
        known = not live and not self.failure
        value = made.detach() if isinstance(made, Tensor) else made
        return TracedNode(
            name=call.name,
            op=spelling.op,
            kind=_kind(call, layer),
            target=str(call.target) if call.op in ("call_module", "get_attr") else "",
            layer=layer,
            given=given,
            surplus=surplus,
            sources=sources,
            shape=shape,
            live=live,
            value=value if known else None,
            known=known,
            axes=spelling.axes,
            in_place=_is_in_place(self.module, call),
            call=call,
        )

    def _read(self, argument: Any) -> Any:
        """An argument with nodes in place of torch.fx's; constants as they are, where they are known."""

        def one(call: fx.Node) -> Any:
            node = self.nodes[call]
            return node.value if node.known else node

        return fx.map_arg(argument, one)

    def _users(self) -> dict[TracedNode, tuple[TracedNode, ...]]:
        found: dict[TracedNode, list[TracedNode]] = {node: [] for node in self.nodes.values()}
        for node in self.nodes.values():
            if node.op is not ops.SHAPE:
                for source in node.sources:
                    found[source].append(node)
        return {node: tuple(users) for node, users in found.items()}


def _kind(call: fx.Node, layer: nn.Module | None) -> str:
    if layer is not None:
        return type(layer).__name__
    return call.target if isinstance(call.target, str) else getattr(call.target, "__name__", str(call.target))
