"""nn.Module + example input -> Network: the graph that torch.fx traces, walked once."""

from __future__ import annotations

import copy
import operator
import threading
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from formulation.errors import InvalidImages, InvalidModel, UnsupportedLayer
from formulation.lowering.assembly import Assembly
from formulation.lowering.functional import CONCATENATIONS, IN_PLACE, RELUS, SUMS, concatenated, functional_rule
from formulation.lowering.layers import rule
from formulation.lowering.values import Rule, Value
from formulation.network import Network

# torch.fx patches nn.Module.__call__ for the whole process while it traces: one thread at a time may trace or call.
TRACING = threading.Lock()
RANDOM_IMAGES = 4
AGREEMENT = 1e-8  # of the lowered network with the module, relative to the largest logit


def lower(model: nn.Module, example_input: Any) -> Network:
    """The network that `model` computes, in float64, as affine maps, ReLUs, max-pools and sums.

    `Network.unscored` names the layers on which no score acts, each with the reason.

    Args:
        model: in eval mode; its forward must be traceable by torch.fx.
        example_input: images [n, ...] of the shape the model takes; only the shape and one forward pass are used.

    Raises:
        InvalidModel: training mode, non-finite weights, a model that cannot be traced or in which nothing is scored.
        InvalidImages: no images [n, ...] of finite real numbers, or of a shape that the model does not take.
        UnsupportedLayer: an operation that has no exact rule, by its qualified name and kind.
    """
    _refuse_unusable(model)
    example = _example(example_input)
    with TRACING:
        module = copy.deepcopy(model).to("cpu", torch.float64)
        network = _Lowering(module, example).run(_traced(module))
        _refuse_disagreement(module, example, network)
    return network


def _traced(module: nn.Module) -> fx.Graph:
    try:
        graph = fx.Tracer().trace(module)
    except Exception as error:  # the forward is a stranger's code and may raise anything
        raise InvalidModel(
            f"{type(module).__name__} cannot be traced by torch.fx ({_first_line(error)}); "
            "remove control flow that depends on values"
        ) from error
    for node in reversed(graph.nodes):  # what nothing uses reads nothing
        if not node.users and node.op not in ("placeholder", "output") and not _is_in_place(module, node):
            graph.erase_node(node)
    return graph


def _is_in_place(module: nn.Module, node: fx.Node) -> bool:
    """Whether the node changes what it reads; dropout does not, in evaluation mode."""
    if node.op == "call_module":
        layer = module.get_submodule(str(node.target))
        return isinstance(layer, nn.ReLU) and layer.inplace
    return node.target in IN_PLACE or (node.target in RELUS and node.kwargs.get("inplace") is True)


class _Lowering:
    """Walks a traced graph once, keeping what each fx node became: a Value, or a plain Python value such as a size."""

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        self.module = module
        self.assembly = Assembly(tuple(example.shape[1:]))
        self.values: dict[fx.Node, Any] = {}
        self.called: set[str] = set()

    def run(self, graph: fx.Graph) -> Network:
        for node in graph.nodes:
            match node.op:
                case "placeholder":
                    if any(isinstance(value, Value) for value in self.values.values()):
                        raise InvalidModel(f"the model takes a second input '{node.name}'; it must take images alone")
                    self.values[node] = self.assembly.input
                case "get_attr":
                    self.values[node] = _attribute(self.module, str(node.target))
                case "call_module":
                    self.values[node] = self._module(node)
                case "call_function" | "call_method":
                    self.values[node] = self._function(node)
                case "output":
                    out = self.values.get(node.args[0]) if isinstance(node.args[0], fx.Node) else None
                    if not isinstance(out, Value) or len(out.shape) != 1:
                        raise InvalidModel("the model must return one tensor of logits [images, classes]")
                    return self.assembly.finish(out)
        raise InvalidModel("the traced model has no output")

    def _module(self, node: fx.Node) -> Value:
        name = str(node.target)
        layer = self.module.get_submodule(name)
        if name in self.called and layer.state_dict():
            raise UnsupportedLayer(f"'{name}' ({type(layer).__name__}) is called twice; shared layers cannot be scored")
        self.called.add(name)
        if len(node.all_input_nodes) != 1 or not isinstance(self.values[node.all_input_nodes[0]], Value):
            raise UnsupportedLayer(f"'{name}' ({type(layer).__name__}) must be called with one activation alone")
        return self._apply(rule(layer, name), self._read(node, node.all_input_nodes[0]), name)

    def _function(self, node: fx.Node) -> Any:
        where = f"{node.name} ({_target_name(node)})"
        inputs = [n for n in node.all_input_nodes if isinstance(self.values[n], Value)]
        asks = not inputs or _reads_size(node)
        read = {n: self._read(node, n) for n in inputs if not asks}
        arguments: Any = fx.map_arg(node.args, lambda n: read.get(n, self.values[n]))
        keywords = dict(fx.map_arg(node.kwargs, lambda n: read.get(n, self.values[n])))
        if not inputs:
            if node.op == "call_function":  # arithmetic on sizes and constants, no activation involved
                return node.target(*arguments, **keywords)  # type: ignore[operator]
            return getattr(arguments[0], str(node.target))(*arguments[1:], **keywords)
        if asks:
            return _size(arguments[0], *(arguments[1:] if node.op == "call_method" else ()))
        if node.op == "call_function" and node.target in (operator.getitem, getattr):
            raise UnsupportedLayer(f"'{where}' slices activations; it cannot be lowered exactly")
        arguments = (*(keywords.pop(first) for first in ("input", "tensors") if first in keywords), *arguments)
        if node.target in CONCATENATIONS:
            return self.assembly.concatenate(node.name, concatenated(arguments, keywords, where))
        if node.target in SUMS and not keywords and all(isinstance(a, Value) for a in arguments):
            return self.assembly.add(node.name, arguments)
        step = functional_rule(node, arguments, keywords, where)
        if len(inputs) != 1:
            raise UnsupportedLayer(f"'{where}' joins {len(inputs)} activations; only their sum can be lowered")
        return self._apply(step, read[inputs[0]], node.name)

    def _read(self, reader: fx.Node, made: fx.Node) -> Value:
        """What `made` became, as `reader` takes it."""
        value: Value = self.values[made]
        readers = [user.name for user in made.users if not _reads_size(user)]
        if len(readers) > 1:
            value = self.assembly.shared(value, readers)
        if not value.single and _is_in_place(self.module, reader):
            raise UnsupportedLayer(
                f"'{reader.name}' changes '{made.name}' in place, which other operations read too; use inplace=False"
            )
        return value

    def _apply(self, step: Rule, source: Value, name: str) -> Value:
        try:
            made = step(source)
        except UnsupportedLayer:  # a NotImplementedError, hence a RuntimeError too
            raise
        except RuntimeError as error:
            raise InvalidImages(
                f"'{name}' does not take a value of shape {source.shape}: {_first_line(error)}; check the image size"
            ) from error
        return made if isinstance(made, Value) else self.assembly.place(name, source, made)


def _size(value: Any, dim: Any = None) -> Any:
    full = (1, *value.shape)
    return full if dim is None else full[dim]


def _reads_size(node: fx.Node) -> bool:
    """x.size(), x.size(dim) and x.shape."""
    if node.op == "call_method":
        return bool(node.target == "size")
    return node.target is getattr and bool(node.args[1] == "shape")


def _attribute(module: nn.Module, name: str) -> Any:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part)
    return found.detach() if isinstance(found, Tensor) else found


def _target_name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _refuse_unusable(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise InvalidModel(f"the model is a {type(model).__name__}; give a torch.nn.Module in eval mode")
    for name, module in model.named_modules():
        if module.training:
            where = f"'{name}'" if name else type(model).__name__
            raise InvalidModel(f"{where} is in training mode; call model.eval() before scoring")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise InvalidModel(f"'{name}' holds {bad} NaN or infinite values; train again or load another checkpoint")


def _example(images: Any) -> Tensor:
    """The first image alone, in float64; raises InvalidImages."""
    try:
        if isinstance(images, Tensor):  # numpy does not know every kind of torch's
            images = images.detach().cpu()
            images = images if images.is_complex() else images.double()
        array = np.asarray(images)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidImages(
            f"the example cannot be read as an array ({_first_line(error)}); give images [n, ...]"
        ) from error
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating) or array.dtype == bool):
        raise InvalidImages(f"the example is {array.dtype}, no real numbers; give images [n, ...]")
    if array.ndim < 2 or len(array) == 0:
        raise InvalidImages(
            f"the example is empty or has no batch dimension (shape {array.shape}); give images [n, ...]"
        )
    first = array[:1].astype(np.float64)
    if not np.isfinite(first).all():
        raise InvalidImages("the example's first image holds NaN or infinite pixels; give another one")
    return torch.as_tensor(first)


def _refuse_disagreement(module: nn.Module, example: Tensor, network: Network) -> None:
    """Compare on the example and on random images, which wake units that are dead on the example."""
    random = torch.rand(
        RANDOM_IMAGES, *example.shape[1:], dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    images = torch.cat([example, random])
    try:
        with torch.no_grad():
            expected = module(images).numpy().T
    except Exception as error:  # the forward is a stranger's code and may raise anything
        raise InvalidImages(
            f"the model does not take float64 images of shape {tuple(example.shape[1:])} ({_first_line(error)}); "
            "check the image size, and cast to no fixed type in the forward"
        ) from error
    found = network.evaluate(images.flatten(1).numpy().T)
    worst = float(np.abs(found - expected).max())
    if not worst <= AGREEMENT * max(1.0, float(np.abs(expected).max())):
        raise UnsupportedLayer(
            f"the lowered network differs from {type(module).__name__} by {worst:.3g} on example or random images; "
            "a layer's forward was overridden or changes in eval mode"
        )
