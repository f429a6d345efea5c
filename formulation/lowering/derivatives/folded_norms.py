"""BatchNorms folded into the convolutions before them: a pass less over their values, forwards and backwards."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from tracing import Graph, TracedNode, ops

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def fold_batch_norms(graph: Graph, gated: Collection[TracedNode]) -> None:
    """Put each BatchNorm that alone reads a convolution into its weights, and an identity in its place.

        gamma (W h + b - mean) / sigma + beta  =  (gamma W / sigma) h + (gamma (b - mean) / sigma + beta)

    Args:
        graph: of a module in evaluation mode that nobody else has; its layers are changed.
        gated: values on which gates act: what makes one of these is left as it is.
    """
    convolutions = graph.calls(ops.CONVOLUTION)
    for name, (norm, *again) in graph.calls(ops.BATCH_NORM).items():
        made = norm.live_sources[0] if len(norm.live_sources) == 1 else None
        if made is None or again or made in gated or graph.users[made] != (norm,):
            continue
        if len(convolutions.get(made.target, ())) == 1 and _are_plain(graph, made, norm):
            assert made.layer is not None
            assert norm.layer is not None
            _fold(made.layer, norm.layer)
            graph.module.set_submodule(name, nn.Identity())


def _are_plain(graph: Graph, *calls: TracedNode) -> bool:
    """Whether layers are torch's own, their tensors read by nobody else."""
    read = {node.target for node in graph.nodes if node.layer is None}
    for call in calls:
        layer = call.layer
        if layer is None or type(layer) not in (*CONVOLUTIONS, *NORMS):
            return False
        if layer._forward_hooks or layer._forward_pre_hooks:
            return False
        names = {f"{call.target}.{name}" for name, _ in (*layer.named_parameters(), *layer.named_buffers())}
        held = isinstance(layer._parameters.get("weight"), Tensor) or isinstance(layer, NORMS)
        if not held or names & read or any(len(graph.holders(each)) > 1 for each in layer.parameters()):
            return False
        if isinstance(layer, NORMS) and (layer.running_mean is None or layer.running_var is None):
            return False
    return True


def _fold(convolution: Any, norm: Any) -> None:
    mean, variance = norm.running_mean, norm.running_var
    scale = torch.rsqrt(variance + norm.eps) * (1.0 if norm.weight is None else norm.weight)
    shift = (0.0 if norm.bias is None else norm.bias) - mean * scale
    weight, bias = convolution.weight, convolution.bias
    wide = scale.reshape(-1, *[1] * (weight.ndim - 1))
    convolution.weight = _constant(weight * wide)
    convolution.bias = _constant(shift if bias is None else shift + bias * scale)


def _constant(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().clone(), requires_grad=False)
