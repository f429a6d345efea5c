"""One rule per torch layer; `singledispatch` keeps the set open."""

from __future__ import annotations

from functools import singledispatch

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from formulation.errors import UnsupportedLayer
from formulation.lowering.parts import bias, convolution, flattened, per_channel, pooled, relu, scaled
from formulation.lowering.values import Made, Rule, Units, Value
from formulation.network import Affine


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
            raise UnsupportedLayer(
                f"'{name}' (Linear) takes {layer.in_features} inputs and reads {source.shape[0]}; check the image size"
            )
        weight = layer.weight.detach().numpy()
        units = Units(name, 1, np.arange(len(weight)))
        return Made(Affine(weight.copy(), bias(layer.bias, len(weight))), (len(weight),), units)

    return step


@rule.register
def _(layer: nn.Conv2d, name: str) -> Rule:
    if layer.padding_mode != "zeros":
        raise UnsupportedLayer(f"'{name}' (Conv2d) has padding_mode='{layer.padding_mode}'; only zeros can be lowered")

    def step(source: Value) -> Made:
        sparse, shape = convolution(layer, source.shape, name)
        pixels = shape[1] * shape[2]
        units = Units(name, int(np.prod(layer.kernel_size)), np.repeat(np.arange(shape[0]), pixels))
        return Made(Affine(sparse, np.repeat(bias(layer.bias, shape[0]), pixels)), shape, units)

    return step


@rule.register(nn.BatchNorm1d)
@rule.register(nn.BatchNorm2d)
def _(layer: nn.BatchNorm1d | nn.BatchNorm2d, name: str) -> Rule:
    if layer.running_mean is None or layer.running_var is None:
        raise UnsupportedLayer(
            f"'{name}' ({type(layer).__name__}) keeps no running statistics; it depends on the batch"
        )
    scale = (1 / torch.sqrt(layer.running_var + layer.eps)).numpy()
    if layer.weight is not None:
        scale = scale * layer.weight.detach().numpy()
    shift = bias(layer.bias, len(scale)) - layer.running_mean.numpy() * scale
    return lambda source: scaled(source, *(per_channel(part, source.shape) for part in (scale, shift)))


@rule.register
def _(layer: nn.ReLU, name: str) -> Rule:
    return relu


@rule.register
def _(layer: nn.AvgPool2d, name: str) -> Rule:
    options = (
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.ceil_mode,
        layer.count_include_pad,
        layer.divisor_override,
    )
    return lambda source: pooled(source, lambda x: F.avg_pool2d(x, *options), name)


@rule.register
def _(layer: nn.AdaptiveAvgPool2d, name: str) -> Rule:
    return lambda source: pooled(source, lambda x: F.adaptive_avg_pool2d(x, layer.output_size), name)


@rule.register
def _(layer: nn.Flatten, name: str) -> Rule:
    return lambda source: flattened(source, layer.start_dim, layer.end_dim, name)


@rule.register(nn.Identity)
@rule.register(nn.Dropout)
@rule.register(nn.Dropout1d)
@rule.register(nn.Dropout2d)
def _(layer: nn.Module, name: str) -> Rule:
    return lambda source: source
