"""nn.Module + example input -> Network: the traced graph, walked once."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import Tensor, nn

from formulation.deadline import NEVER, Deadline
from formulation.errors import InvalidImages, InvalidModel, UnsupportedLayer
from formulation.lowering.agreement import difference, outputs_of, random_images
from formulation.lowering.assembly import Assembly, Group, GroupLayout
from formulation.lowering.example_images import first_image
from formulation.lowering.joins import broadcast, factor_of_second, is_lowered_sum, side_by_side
from formulation.lowering.pace import Pace, copied, require_finite
from formulation.lowering.parts import each_of, makes_several, scaled
from formulation.lowering.rules import label, rule
from formulation.lowering.values import LoweringRule, Value
from formulation.network import Network
from tracing import (
    WEIGHTED,
    Graph,
    KeepingFloat64,
    TracedNode,
    UnfitExample,
    Untraceable,
    first_line,
    ops,
    require_plain,
    trace,
)
from tracing.units import UnitGroup, UnitGroups, is_weighted, token_groups, unit_groups

RANDOM_IMAGES = 4
REMEDY = "give a module whose forward takes the logits out of it"
AS_COLUMN = ": give it as [images, 1] where it is a quantity, as logits[:, None] is"


def lower(
    model: nn.Module, example_input: Any, deadline: Deadline = NEVER, *, most_entries: float = math.inf
) -> Network:
    """The network that `model` computes, in float64, as affine maps, ReLUs, max-pools and sums.

    A log-softmax at the output is left out: the network gives what it reads. `Network.unscored` names the layers on
    which no score acts, each with the reason.

    Args:
        model: in eval mode; its forward must be traceable by torch.fx.
        example_input: images [n, ...] of the shape the model takes; only the shape and one forward pass are used.
        deadline: no block of weights is read and no layer is begun behind it.
        most_entries: of all convolutions' matrices together.

    Raises:
        InvalidModel: training mode, non-finite weights, a model that cannot be traced or in which nothing is scored.
        InvalidImages: no images [n, ...] of finite real numbers, or of a shape that the model does not take.
        UnsupportedLayer: an operation that has no exact rule, by its qualified name and kind; matrices beyond
            `most_entries`.
        TimeLimitReached: the deadline came first.
    """
    refuse_unusable(model)
    require_finite(model, deadline)
    example = first_image(example_input)
    module = copied(model, deadline)
    try:
        with KeepingFloat64():
            graph = trace(module, example)
    except Untraceable as error:
        raise InvalidModel(str(error)) from error
    except UnfitExample as error:
        raise InvalidImages(str(error)) from error
    if (entries := matrix_entries(graph)) > most_entries:
        raise UnsupportedLayer(
            f"its convolutions' matrices have {entries:,} entries; at most {most_entries:,.0f} may be"
        )
    lowering = _Lowering(graph, example, deadline)
    network = lowering.run()
    _refuse_disagreement(module, example, network, deadline, normalised=lowering.log_probabilities is not None)
    return network


def matrix_entries(graph: Graph) -> int:
    """How many entries the matrices of a graph's convolutions have together: one for each multiply-add of an image."""
    return sum(
        int(np.prod(node.shape[2:])) * node.layer.weight.numel()
        for node in graph.nodes
        if node.op is ops.CONVOLUTION and isinstance(node.layer, WEIGHTED) and node.shape is not None
    )


class _Lowering:
    """Walks a traced graph once, keeping the Value that each node became."""

    def __init__(self, graph: Graph, example: Tensor, deadline: Deadline) -> None:
        self.graph, self.deadline, self.pace = graph, deadline, Pace(deadline)
        units = UnitGroups({}, {}, {}) if graph.failure else unit_groups(graph).joined_with(token_groups(graph))
        coupled = [group for group in units.groups.values() if group.coupled and group.axis == 1]
        members = {layer: Group(group.name, group.members) for group in coupled for layer in group.members}
        self.assembly = Assembly(tuple(example.shape[1:]), members, units.reasons)
        self.ends = _ends(coupled)
        self.last = {end.reader for group in units.groups.values() for end in group.ends if not is_weighted(end.reader)}
        self.handed_on: dict[TracedNode, Value] = {}
        self.values: dict[TracedNode, Value] = {}
        self.called: set[str] = set()
        self.log_probabilities = _log_softmax_at_output(graph)

    def run(self) -> Network:
        self._require_one_tensor()
        for node in self.graph.nodes:
            self.deadline.require(f"lowering '{node.name}'")
            if any(not source.live and not source.known for source in node.sources):
                raise InvalidImages(self.graph.failure)  # a constant would have come of a call that failed
            if node.op is ops.INPUT:
                self.values[node] = self.assembly.input
            elif node.op is not ops.OUTPUT and node.live and node is not self.log_probabilities:
                self.values[node] = self._function(node) if node.layer is None else self._layer(node)
        logits = self.graph.output.given["values"]
        if self.log_probabilities is not None:
            (logits,) = self.log_probabilities.live_sources
        out = self.values.get(logits) if isinstance(logits, TracedNode) else None
        if out is None or len(out.shape) != 1:
            raise InvalidModel(f"the model must return one tensor of logits [images, classes]{_returned(logits, out)}")
        return self.assembly.finish(out)

    def _require_one_tensor(self) -> None:
        """Raise InvalidModel where the model returns an object of a class of its own, which no rule can take apart."""
        made = self.graph.output.given["values"]
        if isinstance(made, TracedNode) and made.shape is None and not self.graph.failure:
            raise InvalidModel(
                f"the model must return one tensor of logits [images, classes]; it returns a {made.kind}: {REMEDY}"
            )

    def _layer(self, node: TracedNode) -> Value:
        assert node.layer is not None
        if node.target in self.called and node.layer.state_dict():
            raise UnsupportedLayer(f"'{node.target}' ({node.kind}) is called twice; shared layers cannot be scored")
        self.called.add(node.target)
        if len(node.sources) != 1 or not node.sources[0].live:
            raise UnsupportedLayer(f"'{node.target}' ({node.kind}) must be called with one activation alone")
        step, source = rule(node), self._read(node, node.sources[0])
        self.pace.begin(node.target, node.layer, source)
        made = self._apply(step, source, node.target)
        self.pace.end(node.layer, source)
        return made

    def _function(self, node: TracedNode) -> Value:
        read = {source: self._read(node, source) for source in node.live_sources}
        if node.op in (ops.STACK, ops.CONCATENATE):
            return self.assembly.joined(node.name, side_by_side(node, self._items(node)))
        if is_lowered_sum(node):
            return self._sum(node, *(read[node.argument(name)] for name in ("input", "other")))
        step = rule(node)
        if len(read) != 1:
            raise UnsupportedLayer(f"'{label(node)}' joins {len(read)} activations; only their sum can be lowered")
        (source,) = read.values()
        return self._apply(step, source, node.name)

    def _items(self, node: TracedNode) -> list[Value | Tensor]:
        """What a call joins, one after the other."""
        given = node.argument("tensors")
        if isinstance(given, TracedNode) and makes_several(given):
            whole = self._read(node, given)
            steps = enumerate(each_of(given, label(node)), start=1)
            return [self._apply(step, whole, f"{node.name}#part{k}") for k, step in steps]
        if not isinstance(given, list | tuple):
            raise UnsupportedLayer(f"'{label(node)}' joins what is no list of tensors; give a list of activations")
        return [self._read(node, each) if isinstance(each, TracedNode) else each for each in given]

    def _sum(self, node: TracedNode, first: Value, second: Value) -> Value:
        shape = np.broadcast_shapes(first.shape, second.shape)
        if (factor := factor_of_second(node)) != 1:
            size = len(second.unit)
            second = self.assembly.place(
                f"{node.name}#2", second, scaled(second, np.full(size, factor), np.zeros(size))
            )
        wide = [self._apply(lambda value: broadcast(value, shape), each, node.name) for each in (first, second)]
        return self.assembly.add(node.name, wide)

    def _read(self, reader: TracedNode, made: TracedNode) -> Value:
        """What `made` became, as `reader` takes it."""
        value = self.values[made].behind_its_units() if reader in self.last else self.values[made]
        if makes_several(made) and reader.op not in (ops.SELECT, ops.STACK, ops.CONCATENATE):
            raise UnsupportedLayer(f"'{reader.name}' takes all parts of '{made.name}' at once; take them one by one")
        readers = [user.name for user in self.graph.users[made]]
        if len(readers) > 1:
            value = self.assembly.shared(value, readers)
        if not value.single and reader.in_place:
            raise UnsupportedLayer(
                f"'{reader.name}' changes '{made.name}' in place, which other operations read too; use inplace=False"
            )
        lying = self.ends.get((made, reader))
        if not lying:
            return value
        if made not in self.handed_on:
            self.handed_on[made] = self.assembly.handed_on(made.name, value, lying)
        return self.handed_on[made]

    def _apply(self, step: LoweringRule, source: Value, name: str) -> Value:
        try:
            made = step(source)
        except UnsupportedLayer:  # a NotImplementedError, hence a RuntimeError too
            raise
        except RuntimeError as error:
            raise InvalidImages(
                f"'{name}' does not take a value of shape {source.shape}: {first_line(error)}; check the image size"
            ) from error
        return made if isinstance(made, Value) else self.assembly.place(name, source, made)


def _ends(groups: Iterable[UnitGroup]) -> dict[tuple[TracedNode, TracedNode], list[GroupLayout]]:
    """By value and the layer that reads it: which groups' units are handed on there, and how they lie."""
    found: dict[tuple[TracedNode, TracedNode], list[GroupLayout]] = {}
    for group in groups:
        for end in group.ends:
            lying = GroupLayout(group.name, end.lying.span, end.lying.offset)
            found.setdefault((end.source, end.reader), []).append(lying)
    return found


def _log_softmax_at_output(graph: Graph) -> TracedNode | None:
    """The log-softmax over classes whose values the model returns: the cross-entropy of these is that of its logits."""
    node = graph.output.given["values"]
    if not isinstance(node, TracedNode) or node.op is not ops.LOG_SOFTMAX or len(node.live_sources) != 1:
        return None
    plain = (
        not node.surplus
        and node.argument("dtype") is None
        and node.shape is not None
        and len(node.shape) == 2
        and node.argument("dim") in (1, -1)
    )
    return node if plain and len(graph.users[node.live_sources[0]]) == 1 else None


def _returned(logits: Any, out: Value | None) -> str:
    """What came instead of logits, and what to do about it."""
    if out is not None:
        return f"; for one image it returns {out.shape}{'' if out.shape else AS_COLUMN}"
    if isinstance(logits, dict):
        return f"; it returns a dict of {', '.join(map(repr, logits))}: {REMEDY}"
    return f"; it returns a {type(logits).__name__}: {REMEDY}" if isinstance(logits, list | tuple) else ""


def refuse_unusable(model: nn.Module) -> None:
    """Raise InvalidModel for anything but a plain module in evaluation mode.

    Args:
        model: looked at, never called.
    """
    if not isinstance(model, nn.Module):
        raise InvalidModel(f"the model is a {type(model).__name__}; give a torch.nn.Module in eval mode")
    try:
        require_plain(model)
    except Untraceable as error:
        raise InvalidModel(str(error)) from error
    for name, module in model.named_modules():
        if module.training:
            where = f"'{name}'" if name else type(model).__name__
            raise InvalidModel(f"{where} is in training mode; call model.eval() before scoring")


def _refuse_disagreement(
    module: nn.Module, example: Tensor, network: Network, deadline: Deadline, *, normalised: bool
) -> None:
    """Compare on the example, then on random images, which wake units that are dead on the example."""
    a_pass = 0.0
    for images in (example, random_images(example, RANDOM_IMAGES)):
        deadline.require("comparing the lowered network with the model", len(images) * a_pass)
        started = time.monotonic()
        logits = network.evaluate(images.flatten(1).numpy().T)
        if worst := difference(logits, outputs_of(module, images), normalised=normalised):
            raise UnsupportedLayer(
                f"the lowered network differs from {type(module).__name__} by {worst:.3g} on example or random images; "
                "a layer's forward was overridden or changes in eval mode"
            )
        a_pass = (time.monotonic() - started) / len(images)
