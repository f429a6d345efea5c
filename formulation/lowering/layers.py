"""One rule per torch layer; `singledispatch` keeps the set open."""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import nn

from formulation.errors import UnsupportedLayer
from formulation.lowering.convolutions import Kernel, bias, convolved, dense
from formulation.lowering.parts import flattened, normalised, relu
from formulation.lowering.pools import adaptive_average_pool, adaptive_max_pool, average_pool, max_pool
from formulation.lowering.values import Rule


@singledispatch
def rule(layer: nn.Module, name: str) -> Rule:
    """The lowering rule of a torch layer; register a function for a layer type to extend it."""
    raise UnsupportedLayer(
        f"'{name}' ({type(layer).__name__}) cannot be lowered exactly; use Linear, Conv1d, Conv2d, BatchNorm, ReLU, "
        "max and average pools, Flatten, Dropout or Identity, or register a rule with formulation.lowering.rule"
    )


@rule.register
def _(layer: nn.Linear, name: str) -> Rule:
    return lambda source: dense(source, layer.weight, layer.bias, name)


@rule.register(nn.Conv1d)
@rule.register(nn.Conv2d)
def _(layer: nn.Conv1d | nn.Conv2d, name: str) -> Rule:
    kind = type(layer).__name__
    if layer.padding_mode != "zeros":
        raise UnsupportedLayer(f"'{name}' ({kind}) has padding_mode='{layer.padding_mode}'; only zeros can be lowered")
    kernel = Kernel(
        layer.weight.detach().numpy(),
        bias(layer.bias, layer.out_channels),
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.groups,
    )
    return lambda source: convolved(source, kernel, name)


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
    dims = (3,) if isinstance(layer, nn.BatchNorm2d) else (1, 2)
    return lambda source: normalised(source, scale, shift, dims, name)


@rule.register
def _(layer: nn.ReLU, name: str) -> Rule:
    return relu


@rule.register(nn.MaxPool1d)
@rule.register(nn.MaxPool2d)
def _(layer: nn.MaxPool1d | nn.MaxPool2d, name: str) -> Rule:
    return max_pool(
        1 if isinstance(layer, nn.MaxPool1d) else 2,
        name,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.dilation,
        layer.ceil_mode,
        layer.return_indices,
    )


@rule.register(nn.AdaptiveMaxPool1d)
@rule.register(nn.AdaptiveMaxPool2d)
def _(layer: nn.AdaptiveMaxPool1d | nn.AdaptiveMaxPool2d, name: str) -> Rule:
    axes = 1 if isinstance(layer, nn.AdaptiveMaxPool1d) else 2
    return adaptive_max_pool(axes, name, layer.output_size, layer.return_indices)


@rule.register
def _(layer: nn.AvgPool1d, name: str) -> Rule:
    return average_pool(
        1, name, layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode, layer.count_include_pad
    )


@rule.register
def _(layer: nn.AvgPool2d, name: str) -> Rule:
    return average_pool(
        2,
        name,
        layer.kernel_size,
        layer.stride,
        layer.padding,
        layer.ceil_mode,
        layer.count_include_pad,
        layer.divisor_override,
    )


@rule.register(nn.AdaptiveAvgPool1d)
@rule.register(nn.AdaptiveAvgPool2d)
def _(layer: nn.AdaptiveAvgPool1d | nn.AdaptiveAvgPool2d, name: str) -> Rule:
    return adaptive_average_pool(1 if isinstance(layer, nn.AdaptiveAvgPool1d) else 2, name, layer.output_size)


@rule.register
def _(layer: nn.Flatten, name: str) -> Rule:
    return lambda source: flattened(source, layer.start_dim, layer.end_dim, name)


@rule.register(nn.Identity)
@rule.register(nn.Dropout)
@rule.register(nn.Dropout1d)
@rule.register(nn.Dropout2d)
def _(layer: nn.Module, name: str) -> Rule:
    return lambda source: source
