"""Refit: the layers behind a removal are fitted anew to what they emitted before, by least squares, without labels."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from tracing import Graph, TracedNode, ops
from training.data import Images, image_batches
from training.devices import find_device
from training.errors import RefitError
from training.inference import check_finite_weights, check_forward, evaluating
from training.pruning.dependencies import trace_for_pruning
from training.pruning.masks import Masks, hold_at_zero, prune, removed_entries
from training.pruning.refit.gram import Gram, stream_gram, weight_columns
from training.pruning.refit.image_parts import ImagePart, ImageParts
from training.pruning.refit.least_squares import Fit, choose_ridge, fit_weights, spread, squared_error
from training.pruning.refit.passes import Fitted

RIDGE = 1e-3  # where there is one image alone, and nothing to choose by


@dataclass(frozen=True)
class LayerRefit:
    """One layer's refit, over the images it was fitted to.

    Attributes:
        error_before, error_after: squared error of its outputs against the dense network's, as a part of their
            variance; before, it reads what the network refitted so far hands on with the weights it had.
        ridge: the strength that was used, a part of the columns' mean second moment.
        columns: kept inputs per group, at most; more than readings leave some weights to the ridge.
        readings: equations, images times places.
    """

    error_before: float
    error_after: float
    ridge: float
    columns: int
    readings: int


@dataclass(frozen=True, eq=False)
class Refitted:
    """A network without its removed units, each layer behind them fitted anew, and what that did to each layer.

    Attributes:
        network: on the CPU, in evaluation mode.
        layers: by name, in the order of the forward pass.
        left: layers behind the removal whose weights are as they were, by name, each with the reason.
        seconds: that it took.
    """

    network: nn.Module
    layers: dict[str, LayerRefit]
    left: dict[str, str]
    seconds: float


def refit(
    model: nn.Module, masks: Masks, images: Images, *, ridge: float | None = None, device: str = "cpu"
) -> nn.Module:
    """A copy of a model without its removed units, every layer that reads them fitted anew.

    Args:
        model, masks, images, ridge, device: as for `refit_layers`.

    Raises:
        RefitError, MaskError, UnsupportedGraph, ModelError, DeviceError: as `refit_layers`.
    """
    return refit_layers(model, masks, images, ridge=ridge, device=device).network


def refit_layers(
    model: nn.Module, masks: Masks, images: Images, *, ridge: float | None = None, device: str = "cpu"
) -> Refitted:
    """Remove units and let the survivors take over: layer after layer, a least-squares fit without labels.

    For a layer with weights W that reads Z (columns: what each unit hands on) in the network refitted so far, and Y
    what it emits in the dense network, over all images and places, K the kept columns:

        minimise over V supported on K, c   ||Y - V Z - c||^2 + r ||V - W||^2_K

    in closed form from the Gram matrices Z Z' and Y Z', which are streamed over the images in float64. c goes into the
    layer's bias, or into the mean of a BatchNorm right behind it; without either c = 0. Behind a BatchNorm the
    pre-activation is the target. Every Linear, Conv1d and Conv2d layer behind a removal is fitted, those of any stride,
    padding, dilation and groups included; a layer that is not linear in weights of its own stays as it is, and is
    named. Removed units stay removed.

    Args:
        model: the dense network, which is not touched.
        masks: bool per unit of the layers that lose units, True = kept.
        images: [n, C, H, W]; some hundred are enough, and fewer than a layer has inputs work by the ridge. Or a
            DataLoader or any iterable of batches, which is read once for each layer; labels beside them are not read.
        ridge: r as a part of the columns' mean second moment, >= 0; None chooses it for each layer, on every fifth
            image.
        device: where the passes and sums are made.

    Returns:
        The network on the CPU in evaluation mode, each layer's error before and after, the layers left as they were,
        and the seconds.

    Raises:
        DataError: data that hold no images.
        RefitError: no image, a ridge below 0 or not finite, activations that are NaN, or a singular Gram matrix at
            ridge 0; the layer is named.
        MaskError, UnsupportedGraph: as `prune`.
        ModelError: the images do not fit.

    Source: the layer-wise reconstruction of He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural
    Networks", ICCV 2017.

    Departs from the paper: the reading network is the refitted one, and the ridge is chosen per layer.
    """
    batches = image_batches(images)
    if isinstance(images, Tensor) and len(images) == 0:
        raise RefitError("images is empty: give some unlabelled images to fit the survivors to")
    if ridge is not None and not 0.0 <= ridge < float("inf"):
        raise RefitError(f"ridge={ridge}: give a number of 0 or more, or None to choose one on held-back images")
    place = find_device(device)
    check_finite_weights(model)
    example = batches.first()
    check_forward(model, example)
    start = time.monotonic()
    dense = copy.deepcopy(model).to(place)
    network = prune(model, masks, example).to(place)
    zeros = removed_entries(model, masks, example)
    graph = trace_for_pruning(model, example)
    found: dict[str, LayerRefit] = {}
    left: dict[str, str] = {}
    with evaluating(dense), evaluating(network):
        behind = _behind(graph, [layer for layer, mask in masks.items() if not mask.all()])
        parts: Iterable[ImagePart] = ImageParts.of(network, dense, batches) if behind else []
        for node in behind:
            name = node.target or graph.attention_of(node)
            if reason := _why_not_linear(graph, node):
                left[name] = reason
                continue
            norm = _norm_behind(graph, node)
            found[name] = _refit_layer(network, name, parts, zeros.get(f"{name}.weight"), norm, ridge)
            hold_at_zero(network, zeros)
    return Refitted(network.to("cpu").eval(), found, left, time.monotonic() - start)


def _refit_layer(
    network: nn.Module,
    name: str,
    parts: Iterable[ImagePart],
    removed: Tensor | None,
    norm: str | None,
    ridge: float | None,
) -> LayerRefit:
    """Fit one layer of `network` in place."""
    layer = network.get_submodule(name)
    assert isinstance(layer, Fitted)
    old, groups = weight_columns(layer), 1 if isinstance(layer, nn.Linear) else layer.groups
    kept = _kept_columns(removed, old)
    # One group: the columns and the units that are gone need not be summed at all.
    only = kept[0] if groups == 1 else None
    units = _kept_units(removed, old) if groups == 1 else None
    here = kept if only is None else kept[:, only]
    weights = old if only is None or units is None else old[:, units][:, :, only]
    intercept = layer.bias is not None or norm is not None
    fitting, held_back = _grams(name, parts, only, units)
    if groups > 1:
        fitting, held_back = _of_units(fitting, removed), held_back and _of_units(held_back, removed)
    whole = fitting if held_back is None else fitting + held_back
    if not bool(torch.isfinite(whole.inner).all() & torch.isfinite(whole.cross).all()):
        raise RefitError(f"layer {name!r} reads or emits NaN or infinite values on these images: look at the images")
    strength = ridge
    if strength is None:
        strength = RIDGE if held_back is None else choose_ridge(fitting, held_back, here, weights, intercept=intercept)
    try:
        fits = [fit_weights(whole, g, here[g], weights[g], strength, intercept=intercept) for g in range(groups)]
    except RefitError as error:
        raise RefitError(f"layer {name!r}: {error}") from error
    before = [Fit(weights[g].double(), _constant(layer, g, groups, units)) for g in range(groups)]
    scale = sum(spread(whole, g) for g in range(groups)) or 1.0
    errors = [sum(squared_error(whole, g, fit) for g, fit in enumerate(each)) / scale for each in (before, fits)]
    _write(network, layer, fits, only, units, norm)
    return LayerRefit(errors[0], errors[1], strength, int(kept.sum(1).max()), whole.count)


def _grams(
    name: str, parts: Iterable[ImagePart], kept: Tensor | None, units: Tensor | None
) -> tuple[Gram, Gram | None]:
    """The sums over four images of five, and over every fifth; all in one where there is one image."""
    sums: dict[bool, Gram] = {}
    for part in parts:
        found = stream_gram(part.network, part.dense, name, kept=kept, units=units)
        sums[part.held_back] = sums[part.held_back] + found if part.held_back in sums else found
    return sums[False], sums.get(True)


def _of_units(gram: Gram, removed: Tensor | None) -> Gram:
    """The sums with targets of 0 for units that are gone: their weights then are 0, and they are no error."""
    if removed is None:
        return gram
    gone = removed.flatten(1).all(1).reshape(gram.targets.shape).to(gram.targets.device)
    there = (~gone).to(gram.targets.dtype)
    return replace(
        gram, cross=gram.cross * there[:, :, None], targets=gram.targets * there, squares=gram.squares * there
    )


def _kept_columns(removed: Tensor | None, weights: Tensor) -> Tensor:
    """Bool per group and column: a column is gone where every weight on it is held at 0."""
    groups, rows, columns = weights.shape
    if removed is None:
        return torch.ones(groups, columns, dtype=torch.bool, device=weights.device)
    gone = removed.to(weights.device).reshape(groups, rows, columns)
    there = ~gone.all(2)  # rows of units that are kept
    return torch.stack([~gone[g][there[g]].all(0) if bool(there[g].any()) else ~gone[g].all(0) for g in range(groups)])


def _kept_units(removed: Tensor | None, weights: Tensor) -> Tensor:
    """Bool per unit of a layer of one group: a unit is gone where all its weights are held at 0."""
    if removed is None:
        return torch.ones(weights.shape[1], dtype=torch.bool, device=weights.device)
    return ~removed.to(weights.device).flatten(1).all(1)


def _constant(layer: Fitted, group: int, groups: int, units: Tensor | None) -> Tensor:
    size = layer.weight.shape[0] // groups
    if layer.bias is None:
        own = torch.zeros(size, dtype=torch.float64, device=layer.weight.device)
    else:
        own = layer.bias.detach()[group * size : (group + 1) * size].double()
    return own if units is None else own[units]


def _write(
    network: nn.Module, layer: Fitted, fits: list[Fit], only: Tensor | None, units: Tensor | None, norm: str | None
) -> None:
    """Put the weights and the intercepts into the layer, its BatchNorm where it has no bias."""
    weight = torch.stack([fit.weight for fit in fits])
    constant = torch.cat([fit.intercept for fit in fits])
    with torch.no_grad():
        if only is None or units is None:
            layer.weight.copy_(weight.reshape(layer.weight.shape))
        else:
            whole = weight.new_zeros(len(units), len(only))
            whole[torch.outer(units, only)] = weight.flatten()
            layer.weight.copy_(whole.reshape(layer.weight.shape))
            constant = constant.new_zeros(len(units)).masked_scatter(units, constant)
        if layer.bias is not None:
            layer.bias.copy_(constant)
        elif norm is not None:
            mean = network.get_submodule(norm).running_mean
            assert isinstance(mean, Tensor)
            mean.sub_(constant.to(mean.dtype))  # BatchNorm of y + c is BatchNorm of y with its mean lower by c


def _behind(graph: Graph, layers: list[str]) -> list[TracedNode]:
    """The layers with weights behind the given ones, BatchNorms apart, in the order of the forward pass."""
    reached: set[TracedNode] = set()
    found = []
    for node in graph.nodes:
        if any(source in reached for source in node.sources):
            reached.add(node)
            weighs = node.layer is not None and next(node.layer.parameters(), None) is not None
            if (weighs or graph.attention_of(node)) and node.op is not ops.BATCH_NORM:
                found.append(node)
        if (node.target if node.layer is not None else graph.attention_of(node)) in layers:
            reached.add(node)
    return found


def _why_not_linear(graph: Graph, node: TracedNode) -> str:
    """Why what the layer emits is not linear in weights that are its own; empty where it is."""
    if graph.attention_of(node):
        return "the projections of an attention layer are no Linear layers"
    if not isinstance(node.layer, Fitted):
        return f"{node.kind} is no Linear, Conv1d or Conv2d layer"
    weight = node.layer._parameters.get("weight")
    if weight is None:
        return "its weight is computed from other parameters"
    others = [key for key in graph.holders(weight) if key != f"{node.target}.weight"]
    return f"its weight is also {others[0]}" if others else ""


def _norm_behind(graph: Graph, node: TracedNode) -> str | None:
    """The BatchNorm that alone reads a layer, and keeps a running mean."""
    users = graph.users[node]
    if len(users) != 1 or users[0].op is not ops.BATCH_NORM or users[0].layer is None:
        return None
    return users[0].target if isinstance(users[0].layer.running_mean, Tensor) else None
