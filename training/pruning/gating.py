"""The loss as a function of gates on units: what removing a unit, or taking one back, does to it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn.functional import cross_entropy

from training.devices import find_device
from training.errors import DataError, LabelError, SettingsError
from training.inference import check_finite_weights, check_forward, weight_type
from training.pruning.channels import Reader, consumers, positions_after, trace
from training.pruning.masks import Masks
from training.pruning.operations import WEIGHTED, live_nodes, module_of, shape_of, users

# What nodes of the traced model make of one batch.
Values = dict[fx.Node, Any]


@dataclass(frozen=True, eq=False)
class Slopes:
    """At `masks`: the mean cross-entropy (nats) and per layer its derivative by the gate of each unit [units].

    To first order the loss changes by the derivative where a unit comes back, by minus the derivative where it goes.
    `handed_on`: what the layers hand on at these masks, batch by batch; neighbouring masks are tried from there.
    """

    masks: Masks
    loss: float
    by_layer: dict[str, NDArray[np.float64]]
    handed_on: tuple[Values, ...]


class GatedNetwork:
    """A model in evaluation mode with a gate g in [0, 1] on every unit of some layers, and the images of its loss.

    A unit's gate multiplies what the unit hands to the layers that read it and to the sums where its way ends. That is
    behind every BatchNorm of the way: at g = 0 their constants are gone too, so with a mask as gates the network is
    `prune(model, masks)`, and what reads is linear in g. (A factor on the weights before the ReLU is as exact at 0 and
    1, but torch takes relu'(0) = 0: the slope of a removed unit would be 0 whatever the unit is worth.)

    The model passed in is copied. Memory grows with what the layers hand on for all images.
    """

    def __init__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        layers: Iterable[str],
        *,
        batch_size: int = 512,
        device: str = "cpu",
    ) -> None:
        """For images [n, ...] and labels [n], int64.

        Raises before any work: DeviceError, SettingsError, ModelError, DataError, LabelError, UnsupportedGraph.
        """
        place = find_device(device)
        _check(model, images, labels, batch_size)
        placed = copy.deepcopy(model).requires_grad_(False).to(place).eval()
        kind = weight_type(placed)
        self._images = len(images)
        self._units = {layer: link.units for layer, link in consumers(placed, images[:1], layers).items()}
        self._traced = trace(placed, images[:1])
        self._gates, self._moved = _insert_gates(self._traced, list(self._units), place)
        self._kept = {node for moved in self._moved.values() for node in _read_by(moved)}
        self._ones = torch.ones(1 + sum(self._units.values()), device=place, dtype=kind)
        self._labels = torch.split(labels.cpu(), batch_size)
        # What no gate moves is computed once.
        moved = self._moved_by(self._units)
        still = [node for node in self._traced.graph.nodes if node not in {*moved, self._gates}]
        with torch.no_grad():
            self._still = [
                self._run({}, still, _read_by(moved), part.to(place, kind)) for part in torch.split(images, batch_size)
            ]

    def slopes(self, masks: Masks) -> Slopes:
        """The loss under masks of all the layers, and its derivative by every gate: one pass forth and back."""
        gates = self._at(masks).requires_grad_()
        total, slope, handed_on = 0.0, torch.zeros(len(gates), dtype=torch.float64), []
        for loss, kept in self._losses(gates, self._moved_by(self._units), self._still):
            total += float(loss.detach())
            slope += torch.autograd.grad(loss, gates)[0].cpu()
            handed_on.append(kept)
        parts = np.split(slope.numpy()[1:] / self._images, np.cumsum(list(self._units.values()))[:-1])
        by_layer = dict(zip(self._units, parts, strict=True))
        return Slopes(masks, total / self._images, by_layer, tuple(handed_on))

    def loss(self, masks: Masks, beside: Slopes) -> float:
        """The mean cross-entropy (nats) under masks; only what differs from the masks `beside` them is computed."""
        changed = [layer for layer in self._units if not np.array_equal(masks[layer], beside.masks[layer])]
        if not changed:
            return beside.loss
        known = [still | handed_on for still, handed_on in zip(self._still, beside.handed_on, strict=True)]
        with torch.no_grad():
            losses = self._losses(self._at(masks), self._moved_by(changed), known)
            return sum((float(loss) for loss, _ in losses), 0.0) / self._images

    def _at(self, masks: Masks) -> Tensor:
        """The gates' values: a 1 for columns that no gated unit feeds, then the masks one after another."""
        kept = np.concatenate([[True], *(masks[layer] for layer in self._units)])
        return self._ones * torch.from_numpy(kept).to(self._ones.device)

    def _moved_by(self, layers: Iterable[str]) -> list[fx.Node]:
        """The nodes whose values the gates of these layers move, in the graph's order; the output always."""
        moved = set[fx.Node]().union(*(self._moved[layer] for layer in layers))
        return [node for node in self._traced.graph.nodes if node in moved or node.op == "output"]

    def _losses(
        self, gates: Tensor, nodes: Sequence[fx.Node], known: Sequence[Values]
    ) -> Iterator[tuple[Tensor, Values]]:
        """Batch by batch the sum of the cross-entropies, and what the layers hand on."""
        read, output = _read_by(nodes), nodes[-1]
        for values, labels in zip(known, self._labels, strict=True):
            # The forward may write over what it reads.
            own = {node: _own(values[node]) for node in read if node is not self._gates}
            kept = self._run(own | {self._gates: gates}, nodes, {*self._kept, output})
            logits = kept.pop(output)
            # On the CPU, because not every device knows float64.
            yield cross_entropy(logits.cpu().double(), labels, reduction="sum"), kept

    def _run(self, values: Values, nodes: Sequence[fx.Node], keep: set[fx.Node], *images: Tensor) -> Values:
        """Compute the nodes in their order from the values that they read; returns those to keep."""
        interpreter = fx.Interpreter(self._traced, garbage_collect_values=False)
        interpreter.env, interpreter.args_iter = values, iter(images)
        kept = {}
        for node in nodes:
            made = interpreter.run_node(node)
            if node in keep:
                kept[node] = made if node.op == "output" else _detached(made)
                made = _own(made)
            values[node] = made
        return kept


def _own(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


def _insert_gates(
    traced: fx.GraphModule, layers: Sequence[str], device: torch.device
) -> tuple[fx.Node, dict[str, set[fx.Node]]]:
    """Put the gates where the units' ways end; returns their node and, per layer, all nodes that its gates move.

    The gates' value is [1 + units of all layers], a 1 and then the layers' gates one after another.
    """
    graph, live = traced.graph, live_nodes(traced.graph)
    starts = {str(node.target): node for node in graph.nodes if node.op == "call_module"}
    # Of each value that ends a way: who reads it, and which gate each column of its axis 1 is multiplied by.
    readers: dict[fx.Node, set[fx.Node]] = {}
    columns: dict[fx.Node, Tensor] = {}
    sources: dict[str, set[fx.Node]] = {layer: set() for layer in layers}
    first = 1
    for layer in layers:
        gates = torch.arange(first, first + _width(starts[layer]))
        for source, node, lying in _ends(traced, layer, starts[layer], live):
            readers.setdefault(source, set()).add(node)
            column = columns.setdefault(source, torch.zeros(_width(source), dtype=torch.int64, device=device))
            column[lying.offset : lying.offset + len(gates) * lying.span] = gates.repeat_interleave(lying.span)
            sources[layer].add(source)
        first += len(gates)
    with graph.inserting_before(next(iter(graph.nodes))):
        given = graph.placeholder("gates")
    gated = {}
    for source, column in columns.items():
        with graph.inserting_after(source):
            name = f"gates_of_{source.name}"
            traced.register_buffer(name, column)
            gated[source] = graph.call_function(_multiply, (source, given, graph.get_attr(name)))
        for node in readers[source]:
            node.replace_input_with(source, gated[source])
    return given, {layer: _after(gated[source] for source in sources[layer]) for layer in layers}


def _multiply(values: Tensor, gates: Tensor, columns: Tensor) -> Tensor:
    return values * gates[columns].reshape(-1, *[1] * (values.ndim - 2))


def _ends(
    traced: fx.GraphModule, layer: str, start: fx.Node, live: set[fx.Node]
) -> Iterator[tuple[fx.Node, fx.Node, Reader]]:
    """Where the units' way ends: the value handed on, who takes it, and how the units lie in the value."""
    pending = [(start, Reader(layer, 1))]
    seen = set(pending)
    while pending:
        source, lying = pending.pop()
        for node in users(source):
            after = [(node, here) for here in positions_after(traced, layer, source, node, lying, live)]
            # Nothing lies behind a sum: there the way ends as at a layer that reads.
            if not after or isinstance(module_of(traced, node), WEIGHTED):
                yield source, node, lying
                continue
            pending += [place for place in after if place not in seen]
            seen.update(after)


def _after(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """The nodes and all that depends on them."""
    found: set[fx.Node] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending += node.users
    return found


def _read_by(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """What the nodes read that is none of them."""
    own = set(nodes)
    return {source for node in own for source in node.all_input_nodes} - own


def _width(node: fx.Node) -> int:
    shape = shape_of(node)
    assert shape is not None, "consumers has followed the units through this node"
    return shape[1]


def _check(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> None:
    if batch_size < 1:
        raise SettingsError(f"batch_size={batch_size} is out of range: use 1 or more")
    if not len(images) or labels.shape != images.shape[:1] or labels.dtype != torch.int64:
        found = f"{labels.dtype} of shape {tuple(labels.shape)}"
        raise DataError(
            f"labels for {len(images)} images are {found}: one int64 for each of one or more images is needed"
        )
    check_finite_weights(model)
    outputs = check_forward(model, images)
    low, high = (int(bound) for bound in torch.aminmax(labels))
    if low < 0 or high >= outputs:
        raise LabelError(f"labels run from {low} to {high} but the model has {outputs} outputs: use 0 to {outputs - 1}")
