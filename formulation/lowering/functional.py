"""The functional forms of the same layers, and arithmetic with constants."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, fx

from formulation.errors import UnsupportedLayer
from formulation.lowering.convolutions import Kernel, bias, convolved, dense
from formulation.lowering.parts import flattened, relu, scaled, viewed
from formulation.lowering.pools import adaptive_average_pool, adaptive_max_pool, average_pool, max_pool, mean
from formulation.lowering.values import Made, Rule, Value

ARITHMETIC = {
    operator.add: operator.add,
    operator.iadd: operator.add,
    torch.add: operator.add,
    "add": operator.add,
    operator.sub: operator.sub,
    operator.isub: operator.sub,
    torch.sub: operator.sub,
    operator.mul: operator.mul,
    operator.imul: operator.mul,
    torch.mul: operator.mul,
    operator.truediv: operator.truediv,
    operator.itruediv: operator.truediv,
    torch.div: operator.truediv,
}
SUMS = {target for target, meaning in ARITHMETIC.items() if meaning is operator.add}
CONCATENATIONS = (torch.cat, torch.concat, torch.concatenate)
RELUS = (F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_")
IN_PLACE = (F.relu_, torch.relu_, "relu_", operator.iadd, operator.isub, operator.imul, operator.itruediv)
UNNAMED = "it calls a function with weights, so it has no layer to prune; use the torch.nn layer"
POOL = ("kernel_size", "stride", "padding")


def functional_rule(node: fx.Node, arguments: Any, keywords: dict[str, Any], where: str) -> Rule:
    """The rule of a call of a function or method on one activation; `arguments` starts with it."""
    rest, target = arguments[1:], node.target
    if target in RELUS:
        return relu
    if target in (torch.flatten, "flatten"):
        start, end = _bound(("start_dim", "end_dim"), (0, -1), rest, keywords, where)
        return lambda source: flattened(source, start, end, where)
    if target in ("view", "reshape", torch.reshape):
        sizes = rest[0] if rest and isinstance(rest[0], (tuple, list)) else rest
        return lambda source: viewed(source, tuple(sizes), where)
    if target in (F.dropout, F.dropout2d, F.dropout1d):
        _, training, _ = _bound(("p", "training", "inplace"), (0.5, True, False), rest, keywords, where)
        if training:
            raise UnsupportedLayer(f"'{where}' drops activations also in eval mode; pass training=self.training")
        return lambda source: source
    if target in ARITHMETIC:
        return _arithmetic(target, arguments, keywords, where)
    if target == "contiguous":
        return lambda source: source
    made = _pool(target, rest, keywords, where) or _weighted(target, arguments, keywords, node.name)
    if made is None:
        raise UnsupportedLayer(
            f"'{where}' cannot be lowered exactly; use a torch.nn layer or functional form that is affine, a ReLU, "
            "a max-pool or a sum"
        )
    return made


def _pool(target: Any, rest: Any, keywords: dict[str, Any], where: str) -> Rule | None:
    axes = 1 if target in (F.max_pool1d, F.adaptive_max_pool1d, F.avg_pool1d, F.adaptive_avg_pool1d) else 2
    if target in (F.max_pool1d, F.max_pool2d, torch.max_pool1d, torch.max_pool2d):
        axes = 1 if target in (F.max_pool1d, torch.max_pool1d) else 2
        names = (*POOL, "dilation", "ceil_mode", "return_indices")
        return max_pool(axes, where, *_bound(names, (None, None, 0, 1, False, False), rest, keywords, where))
    if target in (F.avg_pool1d, F.avg_pool2d):
        names = (*POOL, "ceil_mode", "count_include_pad", "divisor_override")
        return average_pool(axes, where, *_bound(names, (None, None, 0, False, True, None), rest, keywords, where))
    if target in (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d):
        return adaptive_average_pool(axes, where, *_bound(("output_size",), (None,), rest, keywords, where))
    if target in (F.adaptive_max_pool1d, F.adaptive_max_pool2d):
        return adaptive_max_pool(
            axes, where, *_bound(("output_size", "return_indices"), (None, False), rest, keywords, where)
        )
    if target in (torch.mean, "mean"):
        return mean(where, *_bound(("dim", "keepdim"), (None, False), rest, keywords, where))
    return None


def _weighted(target: Any, arguments: Any, keywords: dict[str, Any], name: str) -> Rule | None:
    """F.linear, F.conv1d and F.conv2d with weights of the model. Their units can be named by no layer."""
    names = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
    if target not in (F.linear, F.conv1d, F.conv2d):
        return None
    image, weight, offset, *rest = _bound(names, (None, None, None, 1, 0, 1, 1), arguments, keywords, name)
    if not isinstance(image, Value) or not isinstance(weight, Tensor) or isinstance(offset, Value):
        raise UnsupportedLayer(f"'{name}' computes its weights from activations; it cannot be lowered exactly")
    if target is F.linear:
        return lambda source: dense(source, weight, offset, name, UNNAMED)
    kernel = Kernel(weight.detach().numpy(), bias(offset, len(weight)), *rest)
    if weight.ndim != (3 if target is F.conv1d else 4):
        raise UnsupportedLayer(f"'{name}' has weights of shape {tuple(weight.shape)}; check the convolution's kind")
    return lambda source: convolved(source, kernel, name, UNNAMED)


def _arithmetic(target: Any, arguments: Any, keywords: dict[str, Any], where: str) -> Rule:
    """x + c, x - c, x * c, x / c and c + x, c * x, c - x for constants c that do not depend on the input."""
    combine: Callable[..., Tensor] = ARITHMETIC[target]
    if keywords:
        raise UnsupportedLayer(f"'{where}' takes {', '.join(keywords)}; only plain arithmetic can be lowered")
    if len(arguments) != 2 or all(isinstance(a, Value) for a in arguments):
        raise UnsupportedLayer(
            f"'{where}' combines two activations; only their sum, and arithmetic with constants, can be lowered"
        )
    if combine is operator.truediv and isinstance(arguments[1], Value):
        raise UnsupportedLayer(f"'{where}' divides by an activation; it cannot be lowered")

    def step(source: Value) -> Made:
        def at(x: Tensor) -> NDArray[Any]:
            made = combine(*(x if isinstance(a, Value) else a for a in arguments))
            if tuple(made.shape[1:]) != source.shape:
                raise UnsupportedLayer(
                    f"'{where}' broadcasts {source.shape} to {tuple(made.shape[1:])}; it cannot be lowered"
                )
            flat: NDArray[Any] = made[0].reshape(-1).double().numpy()
            return flat

        shift = at(torch.zeros(1, *source.shape, dtype=torch.float64))
        if combine in (operator.mul, operator.truediv):  # exact: no difference of large numbers
            return scaled(source, at(torch.ones(1, *source.shape, dtype=torch.float64)), shift)
        sign = -1.0 if combine is operator.sub and isinstance(arguments[1], Value) else 1.0
        return scaled(source, shift * 0 + sign, shift)

    return step


def concatenated(arguments: Any, keywords: dict[str, Any], where: str) -> list[Value]:
    """The values that torch.cat joins; raises UnsupportedLayer unless it joins activations along the channels."""
    options = {"axis" if name == "dim" else name: value for name, value in keywords.items()}
    values, dim = _bound(("tensors", "axis"), ((), 0), arguments, options, where)
    if not all(isinstance(value, Value) for value in values):
        raise UnsupportedLayer(f"'{where}' joins activations with constants; only activations can be concatenated")
    if any(dim % (len(value.shape) + 1) != 1 for value in values):
        raise UnsupportedLayer(f"'{where}' concatenates along dimension {dim}; only channels (dim=1) can be lowered")
    return list(values)


def _bound(
    names: tuple[str, ...], defaults: tuple[Any, ...], positional: Any, keywords: dict[str, Any], where: str
) -> list[Any]:
    given = dict(zip(names, positional, strict=False)) | keywords
    if unknown := sorted(set(given) - set(names)):
        raise UnsupportedLayer(f"'{where}' takes {', '.join(unknown)}; without it the call can be lowered")
    return [given.get(name, default) for name, default in zip(names, defaults, strict=True)]
