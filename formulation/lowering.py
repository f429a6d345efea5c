"""nn.Module + example input -> Network: the only file of this room that knows torch.

Each torch layer has one small rule; `singledispatch` keeps the set open. A rule turns the layer into an affine map on
the flattened activations (channel-major, as torch flattens), or into a ReLU, or lets it vanish.
What cannot be lowered exactly is refused by its qualified name, before any work; at the end the lowered network is
compared with the module on the example, in float64.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array, eye_array, kron
from torch import Tensor, fx, nn

from formulation.errors import InvalidImages, InvalidModel, UnsupportedLayer
from formulation.network import INPUT, Affine, Layer, Matrix, Network, Node, Relu

AGREEMENT = 1e-8  # of the lowered network with the module, relative to the largest logit


@dataclass(frozen=True)
class Units:
    """Which unit of which Linear or Conv layer each activation belongs to."""

    layer: str
    kernel: int
    index: NDArray[np.int64]
    gated: bool = False  # behind the ReLU that its scores act on


@dataclass(frozen=True)
class Value:
    """A torch value during lowering: the node that makes it, its shape without the batch, its units if traceable."""

    node: str
    shape: tuple[int, ...]
    units: Units | None


def lower(model: nn.Module, example_input: Any) -> Network:
    """The network that `model` computes, in float64, as affine maps and ReLUs.

    Args:
        model: in eval mode; its forward must be traceable by torch.fx.
        example_input: images [n, ...] of the shape the model takes; only the shape and one forward pass are used.

    Raises:
        InvalidModel: training mode, non-finite weights, a model that cannot be traced or does not take the example.
        UnsupportedLayer: an operation that has no exact rule, by its qualified name and kind.
    """
    _refuse_unusable(model)
    example = torch.as_tensor(np.asarray(example_input), dtype=torch.float64)[:1]
    module = copy.deepcopy(model).to("cpu", torch.float64)
    try:
        graph = fx.Tracer().trace(module)
    except (fx.proxy.TraceError, TypeError, NotImplementedError, RuntimeError) as error:
        raise InvalidModel(
            f"{type(model).__name__} cannot be traced by torch.fx ({_first_line(error)}); remove control flow that depends on values"
        ) from error
    lowering = _Lowering(module, example)
    network = lowering.run(graph)
    _refuse_disagreement(module, example, network)
    return network


class _Lowering:
    """Walks a traced graph once, keeping what each fx node became: a Value, or a plain Python value such as a size."""

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        self.module = module
        self.example = example
        self.nodes: list[Node] = []
        self.layers: list[Layer] = []
        self.values: dict[fx.Node, Any] = {}
        self.called: set[str] = set()

    def run(self, graph: fx.Graph) -> Network:
        for node in graph.nodes:
            match node.op:
                case "placeholder":
                    if any(isinstance(value, Value) for value in self.values.values()):
                        raise InvalidModel(f"the model takes a second input '{node.name}'; it must take images alone")
                    self.values[node] = Value(INPUT, tuple(self.example.shape[1:]), None)
                case "get_attr":
                    self.values[node] = _attribute(self.module, str(node.target))
                case "call_module":
                    self.values[node] = self._module(node)
                case "call_function" | "call_method":
                    self.values[node] = self._function(node)
                case "output":
                    return self._finish(node)
        raise InvalidModel("the traced model has no output")

    def _finish(self, node: fx.Node) -> Network:
        out = self.values.get(node.args[0]) if isinstance(node.args[0], fx.Node) else None
        if not isinstance(out, Value) or len(out.shape) != 1:
            raise InvalidModel("the model must return one tensor of logits [images, classes]")
        if not self.nodes or self.nodes[-1].name != out.node:
            raise InvalidModel("the model's output is not its last operation; remove operations that nothing uses")
        if not self.layers:
            raise InvalidModel("nothing to score: the model has no Linear or Conv2d followed by a ReLU")
        return Network(tuple(self.nodes), tuple(self.layers), int(np.prod(self.example.shape[1:])))

    def _module(self, node: fx.Node) -> Value:
        name = str(node.target)
        layer = self.module.get_submodule(name)
        if any(True for _ in layer.parameters()) and name in self.called:
            raise UnsupportedLayer(f"'{name}' ({type(layer).__name__}) is called twice; shared layers cannot be scored")
        self.called.add(name)
        return self._apply(rule(layer, name), node, name)

    def _function(self, node: fx.Node) -> Any:
        where = f"{node.name} ({_target_name(node)})"
        arguments = fx.map_arg(node.args, lambda n: self.values[n])
        keywords = fx.map_arg(node.kwargs, lambda n: self.values[n])
        if not any(isinstance(a, Value) for a in (*arguments, *keywords.values())):
            if node.op == "call_function":  # arithmetic on sizes and constants, no activation involved
                return node.target(*arguments, **keywords)  # type: ignore[operator]
            return getattr(arguments[0], str(node.target))(*arguments[1:], **keywords)
        if node.op == "call_function" and node.target in (operator.getitem, getattr):
            raise UnsupportedLayer(f"'{where}' slices activations; it cannot be lowered exactly")
        if node.op == "call_method" and node.target in ("size",):
            return _size(arguments[0], *arguments[1:])
        return self._apply(_functional_rule(node, arguments, keywords, where), node, node.name)

    def _apply(self, step: Rule, node: fx.Node, name: str) -> Value:
        sources = [n for n in node.all_input_nodes if isinstance(self.values[n], Value)]
        if len(sources) != 1:
            raise UnsupportedLayer(f"'{name}' joins {len(sources)} values; only chains of layers can be lowered")
        readers = [user for user in sources[0].users if not _reads_size(user)]
        if len(readers) > 1:
            raise UnsupportedLayer(f"'{sources[0].name}' feeds {len(readers)} operations; branches cannot be lowered")
        made = step(self.values[sources[0]])
        if isinstance(made, Value):
            return made
        units = made.units
        if isinstance(made.op, Relu):
            if units is None or units.gated:
                raise UnsupportedLayer(f"'{name}' is a ReLU without a Linear or Conv2d of its own before it; it gates no units")
            self.layers.append(Layer(units.layer, int(units.index.max()) + 1, units.kernel, name))
            units = replace(units, gated=True)
        elif units is not None and units.gated and made.op.bias.any():
            raise UnsupportedLayer(
                f"'{name}' adds a constant behind the ReLU of '{units.layer}': a removed unit would not emit 0; put it before the ReLU"
            )
        self.nodes.append(Node(name, made.op, self.values[sources[0]].node, int(np.prod(made.shape))))
        return Value(name, made.shape, units)


@dataclass(frozen=True)
class Made:
    """What a rule makes of its source: an operation and the shape and units of its result."""

    op: Affine | Relu
    shape: tuple[int, ...]
    units: Units | None


Rule = Callable[[Value], Made | Value]


# One rule per torch layer --------------------------------------------------------------------------------------------


@singledispatch
def rule(layer: nn.Module, name: str) -> Rule:
    """The lowering rule of a torch layer; register a function for a layer type to extend it."""
    raise UnsupportedLayer(
        f"'{name}' ({type(layer).__name__}) cannot be lowered exactly; use Linear, Conv2d, BatchNorm, ReLU, AvgPool2d, "
        "AdaptiveAvgPool2d, Flatten, Dropout or Identity, or register a rule with formulation.lowering.rule"
    )


@rule.register
def _(layer: nn.Linear, name: str) -> Rule:
    def step(source: Value) -> Made:
        if len(source.shape) != 1:
            raise UnsupportedLayer(f"'{name}' (Linear) reads a value of shape {source.shape}; put a Flatten before it")
        if source.shape[0] != layer.in_features:
            raise UnsupportedLayer(f"'{name}' (Linear) takes {layer.in_features} inputs and reads {source.shape[0]}; check the image size")
        weight = layer.weight.detach().numpy()
        units = Units(name, 1, np.arange(len(weight)))
        return Made(Affine(weight.copy(), _bias(layer.bias, len(weight))), (len(weight),), units)

    return step


@rule.register
def _(layer: nn.Conv2d, name: str) -> Rule:
    if layer.padding_mode != "zeros":
        raise UnsupportedLayer(f"'{name}' (Conv2d) has padding_mode='{layer.padding_mode}'; only zeros can be lowered")

    def step(source: Value) -> Made:
        sparse, shape = _convolution(layer, source.shape, name)
        pixels = shape[1] * shape[2]
        units = Units(name, int(np.prod(layer.kernel_size)), np.repeat(np.arange(shape[0]), pixels))
        return Made(Affine(sparse, np.repeat(_bias(layer.bias, shape[0]), pixels)), shape, units)

    return step


@rule.register(nn.BatchNorm1d)
@rule.register(nn.BatchNorm2d)
def _(layer: nn.BatchNorm1d | nn.BatchNorm2d, name: str) -> Rule:
    if layer.running_mean is None or layer.running_var is None:
        raise UnsupportedLayer(f"'{name}' ({type(layer).__name__}) keeps no running statistics; it depends on the batch")
    scale = (1 / torch.sqrt(layer.running_var + layer.eps)).numpy()
    if layer.weight is not None:
        scale = scale * layer.weight.detach().numpy()
    shift = _bias(layer.bias, len(scale)) - layer.running_mean.numpy() * scale
    return lambda source: _scaled(source, *(_per_channel(part, source.shape) for part in (scale, shift)))


@rule.register
def _(layer: nn.ReLU, name: str) -> Rule:
    return _relu


@rule.register
def _(layer: nn.AvgPool2d, name: str) -> Rule:
    options = (layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode, layer.count_include_pad, layer.divisor_override)
    return lambda source: _pooled(source, lambda x: F.avg_pool2d(x, *options), name)


@rule.register
def _(layer: nn.AdaptiveAvgPool2d, name: str) -> Rule:
    return lambda source: _pooled(source, lambda x: F.adaptive_avg_pool2d(x, layer.output_size), name)


@rule.register
def _(layer: nn.Flatten, name: str) -> Rule:
    return lambda source: _flattened(source, layer.start_dim, layer.end_dim, name)


@rule.register(nn.Identity)
@rule.register(nn.Dropout)
@rule.register(nn.Dropout1d)
@rule.register(nn.Dropout2d)
@rule.register(nn.AlphaDropout)
def _(layer: nn.Module, name: str) -> Rule:
    return lambda source: source


# Functional forms ----------------------------------------------------------------------------------------------------


def _functional_rule(node: fx.Node, arguments: Any, keywords: dict[str, Any], where: str) -> Rule:
    rest, target = arguments[1:], node.target
    if target in (F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"):
        return _relu
    if target in (torch.flatten, "flatten"):
        start, end = _bound(("start_dim", "end_dim"), (0, -1), rest, keywords)
        return lambda source: _flattened(source, start, end, where)
    if target in ("view", "reshape", torch.reshape):
        sizes = rest[0] if rest and isinstance(rest[0], (tuple, list)) else rest
        return lambda source: _viewed(source, tuple(sizes), where)
    if target in (F.avg_pool2d, F.adaptive_avg_pool2d):
        return lambda source: _pooled(source, lambda x: target(x, *rest, **keywords), where)  # type: ignore[operator]
    if target in (F.dropout, F.dropout2d, F.dropout1d, F.alpha_dropout):
        _, training = _bound(("p", "training"), (0.5, True), rest, keywords)
        if training:
            raise UnsupportedLayer(f"'{where}' drops activations also in eval mode; pass training=self.training")
        return lambda source: source
    if target in (operator.add, operator.sub, operator.mul, operator.truediv, torch.add, torch.sub, torch.mul, torch.div):
        return _arithmetic(target, arguments, where)
    if target in ("contiguous", "double", "float"):
        return lambda source: source
    raise UnsupportedLayer(f"'{where}' cannot be lowered exactly; use a torch.nn layer or functional form that is affine or a ReLU")


def _arithmetic(target: Any, arguments: Any, where: str) -> Rule:
    """x + c, x - c, x * c, x / c and c + x, c * x, c - x for constants c that do not depend on the input."""
    combine = {torch.add: operator.add, torch.sub: operator.sub, torch.mul: operator.mul, torch.div: operator.truediv}.get(target, target)
    if len(arguments) != 2 or all(isinstance(a, Value) for a in arguments):
        raise UnsupportedLayer(f"'{where}' combines two activations; only arithmetic with constants can be lowered")
    if combine is operator.truediv and isinstance(arguments[1], Value):
        raise UnsupportedLayer(f"'{where}' divides by an activation; it cannot be lowered")

    def step(source: Value) -> Made:
        def at(x: Tensor) -> NDArray[np.float64]:
            made = combine(*(x if isinstance(a, Value) else a for a in arguments))
            if tuple(made.shape[1:]) != source.shape:
                raise UnsupportedLayer(f"'{where}' broadcasts {source.shape} to {tuple(made.shape[1:])}; it cannot be lowered")
            return made[0].reshape(-1).double().numpy()

        shift = at(torch.zeros(1, *source.shape, dtype=torch.float64))
        scale = at(torch.ones(1, *source.shape, dtype=torch.float64)) - shift
        return _scaled(source, scale, shift)

    return step


# What the rules are made of ------------------------------------------------------------------------------------------


def _relu(source: Value) -> Made:
    layer, unit = (source.units.layer, source.units.index) if source.units else ("", np.zeros(0, dtype=np.int64))
    return Made(Relu(layer, unit), source.shape, source.units)


def _scaled(source: Value, scale: NDArray[np.float64], shift: NDArray[np.float64]) -> Made:
    return Made(Affine(csr_array(diags_array(scale)), shift), source.shape, source.units)


def _flattened(source: Value, start: int, end: int, name: str) -> Value:
    dims = len(source.shape) + 1
    start, end = start % dims, end % dims
    if start == 0:
        raise UnsupportedLayer(f"'{name}' flattens the batch; start at dimension 1")
    shape = (1, *source.shape)
    merged = (*shape[:start], int(np.prod(shape[start : end + 1])), *shape[end + 1 :])
    return replace(source, shape=merged[1:])


def _viewed(source: Value, sizes: tuple[Any, ...], name: str) -> Value:
    size = int(np.prod(source.shape))
    tail = [int(s) for s in sizes[1:]]
    known = int(np.prod([s for s in tail if s != -1]))
    shape = tuple(size // known if s == -1 else s for s in tail)
    if sizes[0] not in (1, -1) or (sizes[0] == -1 and -1 in tail) or int(np.prod(shape)) != size:
        raise UnsupportedLayer(f"'{name}' reshapes {source.shape} to {sizes}; keep the batch first, as in x.view(x.size(0), -1)")
    return replace(source, shape=shape)


def _pooled(source: Value, pool: Callable[[Tensor], Tensor], name: str) -> Made:
    """An average pool acts on each channel alone: its matrix is read off from the pooled unit images of one channel."""
    if len(source.shape) != 3:
        raise UnsupportedLayer(f"'{name}' pools a value of shape {source.shape}; it must be channels, height, width")
    channels, height, width = source.shape
    basis = torch.eye(height * width, dtype=torch.float64).reshape(-1, 1, height, width)
    pooled = pool(basis)
    one = csr_array(pooled.reshape(height * width, -1).numpy().T)
    matrix = csr_array(kron(eye_array(channels), one, format="csr"))
    shape = (channels, *(int(s) for s in pooled.shape[2:]))
    units = source.units
    if units is not None:
        per_channel = units.index.reshape(channels, -1)[:, 0]
        units = replace(units, index=np.repeat(per_channel, int(np.prod(shape[1:]))))
    return Made(Affine(matrix, np.zeros(matrix.shape[0])), shape, units)


def _convolution(layer: nn.Conv2d, shape: tuple[int, ...], name: str) -> tuple[Matrix, tuple[int, int, int]]:
    """The matrix of a convolution: where each weight meets each input, read off from the unfolded input indices."""
    if len(shape) != 3 or shape[0] != layer.in_channels:
        raise UnsupportedLayer(f"'{name}' (Conv2d) reads a value of shape {shape}; it takes {layer.in_channels} channels")
    size = int(np.prod(shape))
    index = torch.arange(1, size + 1, dtype=torch.float64).reshape(1, *shape)  # 0 marks padding
    padded = F.pad(index, _padding(layer))
    windows = F.unfold(padded, layer.kernel_size, dilation=layer.dilation, stride=layer.stride)[0].long().numpy()
    reach = [d * (k - 1) + 1 for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    height, width = ((int(p) - r) // s + 1 for p, r, s in zip(padded.shape[2:], reach, layer.stride, strict=True))
    pixels, out = windows.shape[1], layer.out_channels
    taps = windows.shape[0] // layer.groups
    weight = layer.weight.detach().numpy().reshape(out, taps)
    group = np.arange(out) // (out // layer.groups)
    columns = windows.reshape(layer.groups, taps, pixels)[group].transpose(0, 2, 1)  # [out, pixels, taps]
    data = np.broadcast_to(weight[:, None, :], columns.shape)
    rows = np.broadcast_to(np.arange(out * pixels).reshape(out, pixels, 1), columns.shape)
    inside = (columns > 0) & (data != 0)
    matrix = csr_array((data[inside], (rows[inside], columns[inside] - 1)), shape=(out * pixels, size))
    return matrix, (out, height, width)


def _padding(layer: nn.Conv2d) -> list[int]:
    """(left, right, top, bottom) as torch pads: 'same' puts the odd pixel at the end."""
    if layer.padding == "valid":
        return [0, 0, 0, 0]
    if layer.padding == "same":
        total = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2]
    top, left = (int(p) for p in layer.padding)
    return [left, left, top, top]


def _per_channel(part: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.repeat(part, int(np.prod(shape[1:])))


def _bias(bias: Tensor | None, size: int) -> NDArray[np.float64]:
    return np.zeros(size) if bias is None else bias.detach().numpy().copy()


def _bound(names: tuple[str, ...], defaults: tuple[Any, ...], positional: Any, keywords: dict[str, Any]) -> list[Any]:
    given = dict(zip(names, positional, strict=False)) | keywords
    return [given.get(name, default) for name, default in zip(names, defaults, strict=True)]


def _size(value: Value, dim: int | None = None) -> Any:
    full = (1, *value.shape)
    return full if dim is None else full[dim]


def _reads_size(node: fx.Node) -> bool:
    return node.op == "call_method" and node.target == "size"


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
    for name, module in model.named_modules():
        if module.training:
            where = f"'{name}'" if name else type(model).__name__
            raise InvalidModel(f"{where} is in training mode; call model.eval() before scoring")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise InvalidModel(f"'{name}' holds {bad} NaN or infinite values; train again or load another checkpoint")


def _refuse_disagreement(module: nn.Module, example: Tensor, network: Network) -> None:
    try:
        with torch.no_grad():
            expected = module(example)[0].numpy()
    except (RuntimeError, ValueError) as error:
        raise InvalidImages(f"the model does not take images of shape {tuple(example.shape[1:])}: {_first_line(error)}") from error
    found = network.evaluate(example.reshape(1, -1).numpy().T)[:, 0]
    worst = float(np.abs(found - expected).max())
    if not worst <= AGREEMENT * max(1.0, float(np.abs(expected).max())):
        raise UnsupportedLayer(
            f"the lowered network differs from {type(module).__name__} by {worst:.3g} on the example; "
            "a layer's forward was overridden or changes in eval mode"
        )
