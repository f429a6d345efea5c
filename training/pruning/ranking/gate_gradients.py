"""The loss as a function of gates on units: what removing a unit, or taking one back, does to it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tracing import Graph, Instead, TracedNode, run
from tracing.units import UnitGroup
from training.devices import find_device
from training.errors import DataError, FitSettingsError, LabelError
from training.inference import check_finite_weights, check_forward, weight_type
from training.pruning.dependencies import groups_of, trace_for_pruning
from training.pruning.masks import Masks

# What nodes of the traced graph make of one batch.
GateValues = dict[TracedNode, Any]


@dataclass(frozen=True, eq=False)
class Slopes:
    """At `masks`: the mean cross-entropy (nats) and per layer its derivative by the gate of each unit [units].

    To first order the loss changes by the derivative where a unit comes back, by minus the derivative where it goes.
    `handed_on`: what the layers hand on at these masks, batch by batch; neighbouring masks are tried from there.
    """

    masks: Masks
    loss: float
    by_layer: dict[str, NDArray[np.float64]]
    handed_on: tuple[GateValues, ...]


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
        self._graph = trace_for_pruning(placed, images[:1])
        groups = groups_of(self._graph, layers)
        self._units = {layer: group.units for layer, group in groups.items()}
        self._gated, self._moved = _place_gates(self._graph, groups.values(), place)
        self._kept = {node for moved in self._moved.values() for node in _read_by(moved)}
        self._ones = torch.ones(1 + sum(self._units.values()), device=place, dtype=kind)
        self._labels = torch.split(labels.cpu(), batch_size)
        # What no gate moves is computed once.
        moved = self._moved_by(self._units)
        still, read = [node for node in self._graph.nodes if node not in set(moved)], _read_by(moved)
        (given,) = self._graph.inputs
        self._still: list[GateValues] = []
        with torch.no_grad():
            for part in torch.split(images, batch_size):
                known = {given: part.to(place, kind)}
                made = run(self._graph, {given: _own(known[given])}, keep=read, nodes=still)
                self._still.append(made | {node: value for node, value in known.items() if node in read})

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

    def _moved_by(self, layers: Iterable[str]) -> list[TracedNode]:
        """The nodes whose values the gates of these layers move, in the graph's order; the output always."""
        moved = set[TracedNode]().union(*(self._moved[layer] for layer in layers))
        return [node for node in self._graph.nodes if node in moved or node is self._graph.output]

    def _losses(
        self, gates: Tensor, nodes: Sequence[TracedNode], known: Sequence[GateValues]
    ) -> Iterator[tuple[Tensor, GateValues]]:
        """Batch by batch the sum of the cross-entropies, and what the layers hand on."""
        read, output = _read_by(nodes), self._graph.output
        gated = {source: [each.at(gates)] for source, each in self._gated.items()}
        for values, labels in zip(known, self._labels, strict=True):
            # The forward may write over what it reads.
            own = {node: _own(values[node]) for node in read}
            kept = run(self._graph, own, keep={*self._kept, output}, nodes=nodes, instead=gated)
            logits = kept.pop(output)
            # On the CPU, because not every device knows float64.
            yield (
                cross_entropy(logits.cpu().double(), labels, reduction="sum"),
                {node: _detached(value) for node, value in kept.items()},
            )


def _own(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _detached(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value


@dataclass(frozen=True, eq=False)
class _Gated:
    """Where units' ways end: who reads the value there, and which gate multiplies each entry of the units' axis."""

    readers: frozenset[TracedNode]
    columns: Tensor
    axis: int

    def at(self, gates: Tensor) -> Instead:
        """What the readers get at gates [1 + units of all layers], a 1 and then the layers' gates."""

        def multiplied(values: Tensor) -> Tensor:
            wide = [1] * values.ndim
            wide[self.axis] = -1
            return values * gates[self.columns].reshape(wide)

        return Instead(multiplied, self.readers)


def _place_gates(
    graph: Graph, groups: Iterable[UnitGroup], device: torch.device
) -> tuple[dict[TracedNode, _Gated], dict[str, set[TracedNode]]]:
    """The gates by the values where the units' ways end; per group, all nodes that its gates move."""
    readers: dict[TracedNode, set[TracedNode]] = {}
    columns: dict[TracedNode, Tensor] = {}
    moved: dict[str, set[TracedNode]] = {}
    axes: dict[TracedNode, int] = {}
    first = 1
    for group in groups:
        gates = torch.arange(first, first + group.units)
        for end in group.ends:
            readers.setdefault(end.source, set()).add(end.reader)
            axes[end.source] = group.axis
            width = _width(end.source, group.axis)
            column = columns.setdefault(end.source, torch.zeros(width, dtype=torch.int64, device=device))
            lying = end.lying
            column[lying.offset : lying.offset + len(gates) * lying.span] = gates.repeat_interleave(lying.span)
        moved[group.name] = graph.after(end.reader for end in group.ends)
        first += group.units
    gated = {source: _Gated(frozenset(readers[source]), column, axes[source]) for source, column in columns.items()}
    return gated, moved


def _read_by(nodes: Iterable[TracedNode]) -> set[TracedNode]:
    """What the nodes read that is none of them."""
    own = set(nodes)
    return {source for node in own for source in node.sources} - own


def _width(node: TracedNode, axis: int) -> int:
    assert node.shape is not None, "consumers has followed the units through this node"
    return node.shape[axis]


def _check(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> None:
    if batch_size < 1:
        raise FitSettingsError(f"batch_size={batch_size} is out of range: use 1 or more")
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
