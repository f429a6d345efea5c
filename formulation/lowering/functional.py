"""The functional forms of the same layers, and arithmetic with constants."""

from __future__ import annotations

import operator
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, fx

from formulation.errors import UnsupportedLayer
from formulation.lowering.parts import flattened, pooled, relu, scaled, viewed
from formulation.lowering.values import Made, Rule, Value


def functional_rule(node: fx.Node, arguments: Any, keywords: dict[str, Any], where: str) -> Rule:
    rest, target = arguments[1:], node.target
    if target in (F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"):
        return relu
    if target in (torch.flatten, "flatten"):
        start, end = _bound(("start_dim", "end_dim"), (0, -1), rest, keywords)
        return lambda source: flattened(source, start, end, where)
    if target in ("view", "reshape", torch.reshape):
        sizes = rest[0] if rest and isinstance(rest[0], (tuple, list)) else rest
        return lambda source: viewed(source, tuple(sizes), where)
    if target in (F.avg_pool2d, F.adaptive_avg_pool2d):
        return lambda source: pooled(source, lambda x: target(x, *rest, **keywords), where)
    if target in (F.dropout, F.dropout2d, F.dropout1d):
        _, training = _bound(("p", "training"), (0.5, True), rest, keywords)
        if training:
            raise UnsupportedLayer(f"'{where}' drops activations also in eval mode; pass training=self.training")
        return lambda source: source
    if target in (
        operator.add,
        operator.sub,
        operator.mul,
        operator.truediv,
        torch.add,
        torch.sub,
        torch.mul,
        torch.div,
    ):
        return _arithmetic(target, arguments, keywords, where)
    if target == "contiguous":
        return lambda source: source
    raise UnsupportedLayer(
        f"'{where}' cannot be lowered exactly; use a torch.nn layer or functional form that is affine or a ReLU"
    )


def _arithmetic(target: Any, arguments: Any, keywords: dict[str, Any], where: str) -> Rule:
    """x + c, x - c, x * c, x / c and c + x, c * x, c - x for constants c that do not depend on the input."""
    combine = {
        torch.add: operator.add,
        torch.sub: operator.sub,
        torch.mul: operator.mul,
        torch.div: operator.truediv,
    }.get(target, target)
    if keywords:
        raise UnsupportedLayer(f"'{where}' takes {', '.join(keywords)}; only plain arithmetic can be lowered")
    if len(arguments) != 2 or all(isinstance(a, Value) for a in arguments):
        raise UnsupportedLayer(f"'{where}' combines two activations; only arithmetic with constants can be lowered")
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
        scale = at(torch.ones(1, *source.shape, dtype=torch.float64)) - shift
        return scaled(source, scale, shift)

    return step


def _bound(names: tuple[str, ...], defaults: tuple[Any, ...], positional: Any, keywords: dict[str, Any]) -> list[Any]:
    given = dict(zip(names, positional, strict=False)) | keywords
    return [given.get(name, default) for name, default in zip(names, defaults, strict=True)]
