"""Activations of the units of a model on labelled images, and the loss's gradient by them."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tracing import Graph, Instead, TracedNode, run
from tracing.units import Reader, UnitGroup, positions_after
from training.data import Split
from training.devices import find_device
from training.inference import check_finite_weights, check_fits, evaluating, weight_type
from training.pruning.dependencies import groups_of, trace_for_pruning, weighted_calls
from training.pruning.masks import makes_units, row_parameters


@dataclass(frozen=True, eq=False)
class UnitGate:
    """What gates a group of units: by value, where they lie in it.

    The values are what the one ReLU emits that reads a layer alone; else, with `handed_on`, what layers are handed
    where the units' ways end, of which the derivative is that by these readers. `axis` is that of the units.
    """

    places: Mapping[TracedNode, tuple[Reader, ...]]
    readers: Mapping[TracedNode, frozenset[TracedNode]]
    handed_on: bool
    axis: int = 1

    def units(self, values: Mapping[TracedNode, Tensor], units: int) -> Tensor:
        """[n, units, pixels or tokens] from the gate's values, in float64."""
        moved = {node: values[node].movedim(self.axis, 1) for node in self.places}
        parts = [
            moved[node].narrow(1, place.offset, units * place.span).reshape(len(moved[node]), units, -1)
            for node, places in self.places.items()
            for place in places
        ]
        return torch.cat(parts, 2).double()


@dataclass(frozen=True, eq=False)
class Response:
    """Of one group on a batch: a, what it hands on, and g, the gradient of each image's own cross-entropy by it.

    Both are [n, units, pixels], float64 on the CPU; a Linear layer has one pixel.
    """

    activation: Tensor
    gradient: Tensor


def find_gates(
    model: nn.Module, example_input: Tensor, layers: Sequence[str]
) -> tuple[Graph, dict[str, UnitGate], dict[str, int]]:
    """The traced graph, the gate of each group and its number of units; UnsupportedGraph if units are not followed."""
    graph = trace_for_pruning(model, example_input)
    groups = groups_of(graph, layers)
    starts = weighted_calls(graph)
    gates = {name: _gate(graph, group, starts.get(name)) for name, group in groups.items()}
    return graph, gates, {name: group.units for name, group in groups.items()}


def _gate(graph: Graph, group: UnitGroup, node: TracedNode | None) -> UnitGate:
    if group.gate is None or node is None:
        places: dict[TracedNode, tuple[Reader, ...]] = {}
        readers: dict[TracedNode, frozenset[TracedNode]] = {}
        for end in group.ends:
            places[end.source] = tuple(dict.fromkeys((*places.get(end.source, ()), end.lying)))
            readers[end.source] = readers.get(end.source, frozenset()) | {end.reader}
        return UnitGate(places, readers, handed_on=True, axis=group.axis)
    lying: tuple[Reader, ...] = (Reader(group.name, 1),)
    # One ReLU alone reads the layer, and nothing before it mixes the units.
    while node is not group.gate:
        source, (node,) = node, graph.users[node]
        lying = tuple(here for place in lying for here in positions_after(group.name, source, node, place))
    return UnitGate({node: lying}, {}, handed_on=False)


class _Handed:
    """What layers are handed where units' ways end, kept apart from what others read of the same values."""

    def __init__(self, gates: Iterable[UnitGate]) -> None:
        self.values: dict[TracedNode, Tensor] = {}
        readers: dict[TracedNode, frozenset[TracedNode]] = {}
        for gate in gates:
            for source, own in gate.readers.items():
                readers[source] = readers.get(source, frozenset()) | own
        self.instead = {source: [Instead(partial(self._take, source), own)] for source, own in readers.items()}

    def _take(self, source: TracedNode, value: Tensor) -> Tensor:
        self.values[source] = value.clone()
        return self.values[source]


def responses(
    model: nn.Module, split: Split, layers: Sequence[str], *, batch_size: int, device: str, gradients: bool = True
) -> Iterator[dict[str, Response]]:
    """The response of each layer to batch after batch, in evaluation mode; the model is not touched.

    Without `gradients` they are 0 and no backward pass is made.
    Raises before any work: DeviceError, ModelError, LabelError, UnsupportedGraph.
    """
    placed, place = prepare_probe(model, split, device)
    graph, gates, units = find_gates(placed, split.images[:1], layers)
    relus = {node for gate in gates.values() if not gate.handed_on for node in gate.places}
    for images, labels in _batches(split, batch_size):
        # A gradient for the images makes one pass back to every ReLU, whether or not weights ask for theirs. The copy
        # is there for models that write over their input.
        given = images.to(place, weight_type(placed)).requires_grad_(gradients).clone()
        handed = _Handed(gates.values())
        with torch.set_grad_enabled(gradients):
            emitted = run(graph, {graph.inputs[0]: given}, keep={graph.output, *relus}, instead=handed.instead)
        logits = emitted.pop(graph.output)
        slopes = [_slopes(values, logits, labels.to(place), gradients) for values in (emitted, handed.values)]
        found = {}
        for layer, gate in gates.items():
            which, values = (1, handed.values) if gate.handed_on else (0, emitted)
            activation = gate.units({node: values[node].detach() for node in gate.places}, units[layer]).cpu()
            found[layer] = Response(activation, gate.units(slopes[which], units[layer]).cpu())
        yield found


def weight_gradients(
    model: nn.Module, split: Split, layers: Sequence[str], *, batch_size: int, device: str
) -> dict[str, tuple[Tensor, Tensor]]:
    """Per layer its weights and the gradient of the mean cross-entropy over all images, float64 on the CPU.

    In evaluation mode; the model is not touched; a layer that is not reached has gradients of 0.
    Raises DeviceError, ModelError, LabelError.
    """
    placed, place = prepare_probe(model, split, device)
    parameters = dict(placed.named_parameters())
    weights = [parameters[f"{layer}.{row_parameters(placed.get_submodule(layer))[0]}"] for layer in layers]
    sums = [torch.zeros(weight.shape, dtype=torch.float64) for weight in weights]
    with evaluating(placed), torch.enable_grad():
        for images, labels in _batches(split, batch_size):
            logits = placed(images.to(place, weight_type(placed)))
            loss = cross_entropy(logits, labels.to(place), reduction="sum")
            for total, part in zip(sums, torch.autograd.grad(loss, weights, materialize_grads=True), strict=True):
                total += part.double().cpu()
    values = [weight.detach().double().cpu() for weight in weights]
    return {layer: (value, total / len(split)) for layer, value, total in zip(layers, values, sums, strict=True)}


def prepare_probe(model: nn.Module, split: Split, device: str) -> tuple[nn.Module, torch.device]:
    """A copy of the model on the device, in evaluation mode, its Linear and convolutional weights with gradients.

    Raises DeviceError, ModelError, LabelError.
    """
    place = find_device(device)
    check_finite_weights(model)
    check_fits(model, split)
    placed = copy.deepcopy(model).to(place).eval()
    for part in placed.modules():
        if makes_units(part):
            getattr(part, row_parameters(part)[0]).requires_grad_(True)
    return placed, place


def _batches(split: Split, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(torch.split(split.images, batch_size), torch.split(split.labels, batch_size), strict=True)


def _slopes(
    values: Mapping[TracedNode, Tensor], logits: Tensor, labels: Tensor, gradients: bool
) -> dict[TracedNode, Tensor]:
    if not gradients or not values:
        return {node: torch.zeros_like(value) for node, value in values.items()}
    # Summed, not averaged: an image's activations move its own cross-entropy alone.
    loss = cross_entropy(logits, labels, reduction="sum")
    slopes = torch.autograd.grad(loss, list(values.values()), retain_graph=True)
    return dict(zip(values, slopes, strict=True))
