"""Whole networks that can only be differentiated: a torch module becomes a `Network` of one operation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from formulation.deadline import NEVER, Deadline
from formulation.errors import InvalidImages, InvalidModel, UnsupportedLayer
from formulation.lowering.agreement import difference, outputs_of, random_images
from formulation.lowering.derivatives.folded_norms import fold_batch_norms
from formulation.lowering.derivatives.gated_module import GatedModule
from formulation.lowering.derivatives.gated_units import gated_units
from formulation.lowering.derivatives.passes_digest import digest_of_passes
from formulation.lowering.derivatives.unit_layouts import IMAGES
from formulation.lowering.derivatives.unit_ways import SOFTMAXES
from formulation.lowering.example_images import first_image
from formulation.lowering.pace import copied, require_finite
from formulation.lowering.walk import AS_COLUMN, REMEDY, refuse_unusable
from formulation.network import INPUT, Array, Differentiable, Network, Node
from tracing import Graph, KeepingFloat64, TracedNode, UnfitExample, Untraceable, ops, trace

RANDOM_IMAGES = 3
NAMED = 5  # layers that a refusal names, at most


def differentiable(
    model: nn.Module, example_input: Any, deadline: Deadline = NEVER, *, compared: bool = True
) -> Network:
    """The network that `model` computes, in float64, as one operation that torch differentiates.

    Scored is every Linear and convolution whose units lead through an activation function of their own, whatever lies
    behind; `Network.unscored` names the others, each with the reason. A log-softmax or softmax at the output is left
    out.

    Args:
        model: in eval mode; its forward must be traceable by torch.fx.
        example_input: images [n, ...] of the shape the model takes.
        deadline: of reading it.
        compared: try on images that the gated network computes what the module does.

    Raises:
        InvalidModel: training mode, non-finite weights, a model that cannot be traced or in which nothing is scored.
        InvalidImages: no images [n, ...] of finite real numbers, or of a shape that the model does not take.
        UnsupportedLayer: the model's results for an image depend on others in the batch.
        TimeLimitReached: the deadline came first.
    """
    refuse_unusable(model)
    require_finite(model, deadline)
    example = first_image(example_input)
    module = copied(model, deadline).requires_grad_(False)
    try:
        with KeepingFloat64():
            graph = trace(module, example.repeat(IMAGES, *[1] * (example.ndim - 1)))
    except Untraceable as error:
        raise InvalidModel(str(error)) from error
    except UnfitExample as error:
        raise InvalidImages(str(error)) from error
    if graph.failure:
        raise InvalidImages(graph.failure)
    logits = _logits_of(graph)
    units = gated_units(graph, logits)
    if not units.layers:
        named = [f"'{name}': {reason}" for name, reason in list(units.unscored.items())[:NAMED]]
        raise InvalidModel(f"nothing to score: {'; '.join(named) or 'the model has no Linear or convolution to score'}")
    shape = tuple(example.shape[1:])
    passes = GatedModule(graph, logits, units, shape, digest_of_passes(graph, units, shape))
    tried = _images_and_outputs(module, example) if compared else None
    fold_batch_norms(graph, units.places)  # what the module returns is known, and what it is called
    if tried is not None:
        deadline.require("comparing the gated network with the model")
        _refuse_other_logits(module, *tried, passes, normalised=logits is not graph.output.given["values"])
    op = Differentiable(np.arange(passes.size), passes)
    assert logits.shape is not None, "found to be logits"
    node = Node(logits.name, op, (INPUT,), logits.shape[1])
    return Network((node,), units.layers, int(np.prod(example.shape)), units.unscored)


def _logits_of(graph: Graph) -> TracedNode:
    """The node whose values the model returns, or what a softmax over classes at the output reads."""
    node = graph.output.given["values"]
    if isinstance(node, TracedNode) and node.shape is not None and len(node.shape) == 2:
        last = node.op is ops.LOG_SOFTMAX or node.kind in SOFTMAXES
        (first, *more) = node.live_sources or (None,)
        if last and first is not None and not more and len(graph.users[first]) == 1:
            return first
        if node.live and node.shape[0] == IMAGES:
            return node
    found = f"; for {IMAGES} images it returns {node.shape}" if isinstance(node, TracedNode) else ""
    number = isinstance(node, TracedNode) and node.shape == (IMAGES,)
    remedy = AS_COLUMN if number else f"; {REMEDY}"
    raise InvalidModel(f"the model must return one tensor of logits [images, classes]{found}{remedy}")


def _images_and_outputs(module: nn.Module, example: Tensor) -> tuple[Tensor, Array]:
    """The example and random images, and what the module returns for them one by one, [outputs, images]."""
    images = torch.cat([example, random_images(example, RANDOM_IMAGES)])
    return images, np.concatenate([outputs_of(module, image[None]) for image in images], axis=1)


def _refuse_other_logits(
    module: nn.Module, images: Tensor, outputs: Array, passes: GatedModule, *, normalised: bool
) -> None:
    """Compare what gates at 1 make of all images at once with what the module made of each."""
    logits = passes.gated(images.flatten(1).numpy().T, np.ones(passes.size))
    if worst := difference(logits, outputs, normalised=normalised):
        raise UnsupportedLayer(
            f"{type(module).__name__} gives an image other logits, by {worst:.3g}, when others are beside it or when "
            "its layers are called one by one; an image's logits must depend on it alone"
        )
