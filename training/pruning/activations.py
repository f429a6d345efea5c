"""What the units of a model emit on labelled images, and how the loss would change with it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.functional import cross_entropy

from training.devices import find_device
from training.inference import check_finite_weights, check_fits, evaluating, weight_type
from training.pruning.channels import Reader, consumers, positions_after, trace
from training.pruning.operations import WEIGHTED, is_relu, live_nodes, users
from training.splits import Split


@dataclass(frozen=True)
class Gate:
    """The ReLU that gates a layer's units, as a node of the traced model, and where they lie in what it emits.

    `places` has more than one entry only where a concatenation repeats the units before the ReLU.
    """

    node: fx.Node
    places: tuple[Reader, ...]

    def units(self, emitted: Tensor, units: int) -> Tensor:
        """[n, units, pixels] from what the ReLU emits, in float64."""
        parts = [
            emitted.narrow(1, place.offset, units * place.span).reshape(len(emitted), units, -1)
            for place in self.places
        ]
        return torch.cat(parts, 2).double()


@dataclass(frozen=True, eq=False)
class Response:
    """Of one layer on a batch: a, what the ReLU emits, and g, the gradient of each image's own cross-entropy.

    Both are [n, units, pixels], float64 on the CPU; a Linear layer has one pixel.
    """

    activation: Tensor
    gradient: Tensor


def find_gates(
    model: nn.Module, example_input: Tensor, layers: Sequence[str]
) -> tuple[fx.GraphModule, dict[str, Gate]]:
    """The traced model and the gate of each layer; raises UnsupportedGraph where units cannot be followed."""
    consumers(model, example_input, layers)
    traced = trace(model, example_input)
    live = live_nodes(traced.graph)
    starts = {str(node.target): node for node in traced.graph.nodes if node.op == "call_module"}
    return traced, {layer: _walk(traced, layer, starts[layer], live) for layer in layers}


def _walk(traced: fx.GraphModule, layer: str, node: fx.Node, live: set[fx.Node]) -> Gate:
    places: tuple[Reader, ...] = (Reader(layer, 1),)
    # `consumers` made sure that one ReLU alone reads the layer and that nothing before it mixes the units.
    while not is_relu(traced, node):
        source, (node,) = node, users(node)
        places = tuple(here for place in places for here in positions_after(traced, layer, source, node, place, live))
    return Gate(node, places)


def responses(
    model: nn.Module, split: Split, layers: Sequence[str], *, batch_size: int, device: str, gradients: bool = True
) -> Iterator[dict[str, Response]]:
    """The response of each layer to batch after batch, in evaluation mode; the model is not touched.

    Without `gradients` they are 0 and no backward pass is made.
    Raises before any work: DeviceError, ModelError, LabelError, UnsupportedGraph.
    """
    placed, place = prepare(model, split, device)
    traced, gates = find_gates(placed, split.images[:1], layers)
    parameters = dict(placed.named_parameters())
    widths = {layer: len(parameters[f"{layer}.weight"]) for layer in layers}
    for images, labels in _batches(split, batch_size):
        # A gradient for the images makes one pass back to every ReLU, whether or not weights ask for theirs. The copy
        # is there for models that write over their input.
        given = images.to(place, weight_type(placed)).requires_grad_(gradients).clone()
        probe = _Probe(traced, {gate.node for gate in gates.values()})
        with torch.set_grad_enabled(gradients):
            logits = probe.run(given)
        slopes = _slopes(probe.emitted, logits, labels.to(place)) if gradients else {}
        found = {}
        for layer, gate in gates.items():
            emitted = probe.emitted[gate.node].detach()
            activation = gate.units(emitted, widths[layer]).cpu()
            slope = gate.units(slopes[gate.node], widths[layer]).cpu() if gradients else torch.zeros_like(activation)
            found[layer] = Response(activation, slope)
        yield found


def weight_gradients(
    model: nn.Module, split: Split, layers: Sequence[str], *, batch_size: int, device: str
) -> dict[str, tuple[Tensor, Tensor]]:
    """Per layer its weights and the gradient of the mean cross-entropy over all images, float64 on the CPU.

    In evaluation mode; the model is not touched; a layer that is not reached has gradients of 0.
    Raises DeviceError, ModelError, LabelError.
    """
    placed, place = prepare(model, split, device)
    parameters = dict(placed.named_parameters())
    weights = [parameters[f"{layer}.weight"] for layer in layers]
    sums = [torch.zeros(weight.shape, dtype=torch.float64) for weight in weights]
    with evaluating(placed), torch.enable_grad():
        for images, labels in _batches(split, batch_size):
            logits = placed(images.to(place, weight_type(placed)))
            loss = cross_entropy(logits, labels.to(place), reduction="sum")
            for total, part in zip(sums, torch.autograd.grad(loss, weights, materialize_grads=True), strict=True):
                total += part.double().cpu()
    values = [weight.detach().double().cpu() for weight in weights]
    return {layer: (value, total / len(split)) for layer, value, total in zip(layers, values, sums, strict=True)}


def prepare(model: nn.Module, split: Split, device: str) -> tuple[nn.Module, torch.device]:
    """A copy of the model on the device, in evaluation mode, its Linear and convolutional weights with gradients.

    Raises DeviceError, ModelError, LabelError.
    """
    place = find_device(device)
    check_finite_weights(model)
    check_fits(model, split)
    placed = copy.deepcopy(model).to(place).eval()
    for part in placed.modules():
        if isinstance(part, WEIGHTED):
            part.weight.requires_grad_(True)
    return placed, place


def _batches(split: Split, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(torch.split(split.images, batch_size), torch.split(split.labels, batch_size), strict=True)


class _Probe(fx.Interpreter):
    """Runs the traced model and keeps what some of its nodes emit."""

    def __init__(self, traced: fx.GraphModule, wanted: set[fx.Node]) -> None:
        super().__init__(traced)
        self.wanted = wanted
        self.emitted: dict[fx.Node, Tensor] = {}

    def run_node(self, node: fx.Node) -> Any:
        made = super().run_node(node)
        if node not in self.wanted:
            return made
        self.emitted[node] = made
        # What comes after may write over what it reads.
        return made.clone()


def _slopes(emitted: dict[fx.Node, Tensor], logits: Tensor, labels: Tensor) -> dict[fx.Node, Tensor]:
    # Summed, not averaged: an image's activations move its own cross-entropy alone.
    loss = cross_entropy(logits, labels, reduction="sum")
    slopes = torch.autograd.grad(loss, list(emitted.values()))
    return dict(zip(emitted, slopes, strict=True))
