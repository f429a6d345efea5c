"""Rows of layers on their way: of which rows of which layers each entry of a value is made, and which rows go together.

Followed are calls that move entries, take each alone, or join them as attention and gated linear units do:

    softmax(Q_j K_j') V_j        a * sigmoid(b),  [a, b] = W x

What is joined is one unit: rows of queries, keys and values of one head, the value and the gate of a linear unit. Rows
are numbered over all layers; a call that mixes rows before they are joined joins them all, which is never too little.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from tracing import ops
from tracing.errors import REFUSALS
from tracing.graph import Graph, TracedNode
from tracing.recomputing import number_type, recomputed, tried
from tracing.units.contractions import ATTENTION, MATRIX_PRODUCTS, arguments_of, contraction_of
from tracing.units.joined_rows import JoinedRows
from tracing.units.op_rules import is_weighted, weighs

MOVES = (ops.MOVE, ops.SELECT, ops.PARTS, ops.RESHAPE, ops.FLATTEN)
SAME = (ops.IDENTITY, ops.CAST, ops.DROPOUT, ops.ALPHA_DROPOUT)
SCALINGS = (ops.MULTIPLY, ops.DIVIDE)
ARITHMETIC = (ops.ADD, ops.SUBTRACT, *SCALINGS)
GATED_LINEAR_UNITS = ("glu", "GLU")
MASKED = ("masked_fill", "masked_fill_", "where")
# Of one value or of several, as `chunk` makes them: a row's number for each entry, as floats, which every call moves.
Entries: TypeAlias = Any


@dataclass(frozen=True, eq=False)
class RowEntries:
    """The rows that the entries of a value are made of.

    Attributes:
        entries: the number of one row of each, [shape of the value]; a tuple of these for several values.
        keeps_zero: an entry is 0 where the weights and biases of all rows that belong together are.
        joined: attention or a gated linear unit has joined them.
    """

    entries: Entries
    keeps_zero: bool
    joined: bool = False


class RowWays:
    """The rows of a graph's Linear and convolution layers as far as they can be followed into units of several rows.

    Attributes:
        found: by node, its rows.
        first: by layer, or attention layer, the number of its first row.
        widths: by layer, how many rows it has.
        joined: which rows belong together.
    """

    def __init__(self, graph: Graph, taken: Collection[str] = ()) -> None:
        """Follow the rows of all layers but those taken, from whatever joins rows backwards, then on from there."""
        self.graph, self.taken = graph, taken
        self.found: dict[TracedNode, RowEntries | None] = {}
        self.first: dict[str, int] = {}
        self.widths: dict[str, int] = {}
        self.joined = JoinedRows()
        for node in graph.nodes:
            if node.live and (_joins(node) or any(self.is_joined(source) for source in node.live_sources)):
                self.of(node)

    def of(self, node: TracedNode) -> RowEntries | None:
        """The rows of a value; None where they are not followed so far."""
        if node not in self.found:
            made = self._made(node) if node.live and node.op not in (ops.INPUT, ops.OUTPUT) else None
            self.found[node] = made
        return self.found[node]

    def is_joined(self, node: TracedNode) -> bool:
        """Whether a value is made of rows that have been joined."""
        rows = self.found.get(node)
        return rows is not None and rows.joined

    def layer_of(self, node: TracedNode) -> str:
        """The layer, or the attention layer, whose rows a call makes; empty for any other call."""
        return node.target if is_weighted(node) else self.graph.attention_of(node)

    def _made(self, node: TracedNode) -> RowEntries | None:
        if self.layer_of(node):
            return self._numbered(node)
        sources = [(source, self.of(source)) for source in node.live_sources]
        known = [rows for _, rows in sources if rows is not None]
        if not known:
            return None
        everything = len(known) == len(sources)
        if node.kind == ATTENTION or node.kind in MATRIX_PRODUCTS:
            return self._contracted(node) if node.shape is not None else None
        if node.op is ops.CONCATENATE:
            return self._side_by_side(node, known) if everything else None
        if len(sources) == 1:
            return self._of_one(node, sources[0][0], known[0])
        if (node.op in ARITHMETIC or node.kind in MASKED) and node.shape is not None:
            return self._combined(node, known) if everything else self._beside_others(node, known)
        return None

    def _numbered(self, node: TracedNode) -> RowEntries | None:
        """The rows of a layer that is called once and has weights of its own."""
        name, shape = self.layer_of(node), node.shape
        if name in self.taken or shape is None or not self._is_alone(node, name):
            return None
        axis = 1 if node.op is ops.CONVOLUTION else len(shape) - 1
        self.first[name], self.widths[name] = len(self.joined), shape[axis]
        numbers = self.joined.added(shape[axis])
        return RowEntries(numbers.reshape([-1 if d == axis else 1 for d in range(len(shape))]).expand(shape), True)

    def _is_alone(self, node: TracedNode, name: str) -> bool:
        if sum(self.layer_of(other) == name for other in self.graph.nodes if other.op is node.op) > 1:
            return False
        if node.layer is not None and getattr(node.layer, "groups", 1) > 1:
            return False
        held = (
            [getattr(self.graph.attentions[name], f"in_proj_{each}") for each in ("weight", "bias")]
            if node.layer is None
            else [node.layer.weight, node.layer.bias]
        )
        names, others = (self.graph.holders(each if isinstance(each, Tensor) else None) for each in held)
        readers = [
            user
            for constant in self.graph.nodes
            if constant.op is ops.CONSTANT and constant.target in (*names, *others) and weighs(self.graph, constant)
            for user in self.graph.users[constant]
        ]
        return len(names) == 1 and len(others) < 2 and all(user is node for user in readers)

    def _of_one(self, node: TracedNode, source: TracedNode, rows: RowEntries) -> RowEntries | None:
        """Behind a call of one value."""
        if node.op in SAME:
            return rows
        if node.kind in GATED_LINEAR_UNITS:
            return self._gated(node, rows)
        if source.shape is not None and source.shape == node.shape:
            if node.op in SCALINGS and node.argument("input") is not node.argument("other"):
                divides = node.op is ops.DIVIDE and node.argument("other") is source
                return None if divides else rows
            if node.op in (ops.ADD, ops.SUBTRACT) or node.kind in MASKED:
                return replace(rows, keeps_zero=False)
            if node.op is ops.BATCH_NORM:
                return None  # a layer on the way of units, which goes with them
            if node.op not in MOVES:
                return self._apart(node, rows)
        return self._moved(node, rows) if node.op in MOVES else None

    def _moved(self, node: TracedNode, rows: RowEntries) -> RowEntries | None:
        made = _through(node, rows.entries)
        parts = made if isinstance(made, tuple | list) else (made,)
        last = len(self.joined) - 1
        for part in parts:
            if not isinstance(part, Tensor) or part.dtype != torch.float64:
                return None
        # What is put around the values is 0, as the number of a row is: seen by moving the numbers times -1, less 1.
        other = _through(node, _each(rows.entries, lambda entries: -entries - 1))
        others = other if isinstance(other, tuple | list) else (other,)
        for part, turned in zip(parts, others, strict=True):
            if not bool(((part + turned == -1) & (part >= 0) & (part <= last)).all()):
                return None
        return replace(rows, entries=tuple(parts) if isinstance(made, tuple | list) else made)

    def _apart(self, node: TracedNode, rows: RowEntries) -> RowEntries | None:
        """Behind a call that keeps the shape: what it mixes along an axis is joined, or not followed any more."""
        labels = self.joined.labels(rows.entries)
        kind = number_type(node)
        nothing = _through(node, torch.zeros(rows.entries.shape, dtype=kind))
        if not isinstance(nothing, Tensor) or nothing.shape != labels.shape:
            return None
        for axis in range(1, labels.ndim):
            varies = bool((labels != labels.narrow(axis, 0, 1)).any())
            if varies and not node.op.unitwise and tried(node, axis, kind) is None:
                if rows.joined:
                    return None
                lines = rows.entries.movedim(axis, -1)
                self.joined.join(lines[..., :1].expand(lines.shape), lines)
        if rows.keeps_zero and not bool(nothing.isfinite().all()):
            return None  # a removed unit would hand on 1 / 0 or log 0, which no factor makes 0 again
        return replace(rows, keeps_zero=rows.keeps_zero and not bool(nothing.any()))

    def _gated(self, node: TracedNode, rows: RowEntries) -> RowEntries | None:
        given, named = arguments_of(node)
        default = getattr(node.layer, "dim", -1)
        dim = named.get("dim", given[1] if len(given) > 1 else default)
        value, gate = rows.entries.chunk(2, dim)
        self.joined.join(value, gate)
        return replace(rows, entries=value, joined=True)

    def _contracted(self, node: TracedNode) -> RowEntries | None:
        """Behind attention or a product of matrices: all that one product reads goes together."""
        found = contraction_of(node)
        if found is None or node.shape is None:
            return None
        operands, letters, made = found
        rows = [self.of(each) for each in operands]
        parts = [each for each in rows if each is not None]
        if len(parts) < len(operands) or any(
            len(w) != each.entries.ndim for w, each in zip(letters, parts, strict=True)
        ):
            return None
        leading = [letter for letter in made if all(letter in word for word in letters)]
        sizes = [node.shape[made.index(letter)] for letter in leading]
        flat = []
        for word, each in zip(letters, parts, strict=True):
            order = [*leading, *(letter for letter in word if letter not in leading)]
            lines = _once(each.entries.permute([word.index(letter) for letter in order]), len(leading))
            if list(lines.shape[: len(leading)]) != sizes:
                return None
            flat.append(lines.flatten(len(leading)) if lines.ndim > len(leading) else lines[..., None])
        whole = torch.cat(flat, -1)
        self.joined.join(whole[..., :1].expand(whole.shape), whole)
        wide = [size if letter in leading else 1 for letter, size in zip(made, node.shape, strict=True)]
        entries = whole[..., 0].reshape(wide).expand(node.shape)
        zero = parts[-1].keeps_zero if node.kind == ATTENTION else any(each.keeps_zero for each in parts)
        return RowEntries(entries, zero, joined=True)

    def _side_by_side(self, node: TracedNode, known: list[RowEntries]) -> RowEntries | None:
        parts, dim = node.argument("tensors"), node.argument("dim")
        rows = (
            [self.of(part) for part in parts if isinstance(part, TracedNode)] if isinstance(parts, list | tuple) else []
        )
        if len(rows) != len(parts) or not isinstance(dim, int):
            return None
        entries = torch.cat([each.entries for each in rows if each is not None], dim)
        return RowEntries(entries, all(each.keeps_zero for each in known), any(each.joined for each in known))

    def _combined(self, node: TracedNode, known: list[RowEntries]) -> RowEntries | None:
        """Behind arithmetic of two values that are followed: their rows go together, entry by entry."""
        if len(known) != 2 or any(each.entries.shape != node.shape for each in known):
            return None
        one, other = known
        first, divisor = self.of(node.argument("input")), self.of(node.argument("other"))
        if node.op is ops.DIVIDE and divisor is not None and divisor.keeps_zero:
            return None  # a removed unit would hand on 0 / 0
        several = not torch.equal(self.joined.labels(one.entries), self.joined.labels(other.entries))
        self.joined.join(one.entries, other.entries)
        if node.op is ops.MULTIPLY:
            zero = one.keeps_zero or other.keeps_zero
        elif node.op is ops.DIVIDE:
            zero = first is not None and first.keeps_zero
        else:
            zero = one.keeps_zero and other.keeps_zero
        joins = node.op is ops.MULTIPLY and several
        return RowEntries(one.entries, zero, one.joined or other.joined or joins)

    def _beside_others(self, node: TracedNode, known: list[RowEntries]) -> RowEntries | None:
        """Behind arithmetic with a value that is not followed: it scales or shifts each entry by itself."""
        (rows,) = known[:1]
        if len(known) != 1 or rows.entries.shape != node.shape:
            return None
        scales = node.op is ops.MULTIPLY or (node.op is ops.DIVIDE and self.of(node.argument("input")) is rows)
        return rows if scales else replace(rows, keeps_zero=False)


def _joins(node: TracedNode) -> bool:
    """Whether a call may join rows: attention, a gated linear unit, a product of two values."""
    if node.kind in (ATTENTION, *GATED_LINEAR_UNITS, *MATRIX_PRODUCTS):
        return True
    return node.op is ops.MULTIPLY and len(node.live_sources) == 2


def _through(node: TracedNode, entries: Entries) -> Any:
    try:
        return recomputed(node, _each(entries, lambda part: part.clone(memory_format=torch.contiguous_format)))
    except REFUSALS:
        return None


def _each(entries: Entries, change: Any) -> Entries:
    return tuple(change(part) for part in entries) if isinstance(entries, tuple) else change(entries)


def _once(entries: Tensor, first: int) -> Tensor:
    """Entries without the repetitions along their axes from the given one on."""
    for axis in range(first, entries.ndim):
        one = entries.narrow(axis, 0, 1)
        entries = one if bool((entries == one).all()) else entries
    return entries


def layers_before(ways: RowWays, node: TracedNode) -> tuple[set[TracedNode], list[str]]:
    """The values that a joined value is made of, itself among them, and the layers whose rows those are.

    Args:
        ways: that have been followed.
        node: whose rows are joined.
    """
    inside: set[TracedNode] = set()
    names: list[str] = []
    waiting: list[TracedNode] = [node]
    while waiting:
        each = waiting.pop()
        if each in inside or ways.found.get(each) is None:
            continue
        inside.add(each)
        if name := ways.layer_of(each):
            names.append(name)
        else:
            waiting += each.live_sources
    return inside, sorted(names, key=ways.first.__getitem__)
