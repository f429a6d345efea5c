"""Unreduced program: the design's program written out in full, every activation of every image with its variables.

minimise  loss_weight * mean_i loss_i + largest
subject to  largest >= the sum of any n - 1 of the n layer terms t_k         (of the one term where n = 1)
            (1) to (4) of every ReLU, (5) to (7) of every max-pool window    as the gate says

Written for reading and for comparing: plain on purpose, and meant for small networks. Only the lowered network (tested
against torch elsewhere) is shared with the program that `score` solves; bounds come from interval arithmetic of their
own. The loss stays open: `tests.oracles.tangents` puts tangents in its place, `benchmarks.conic` an exponential cone.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from formulation import Network, ScoreSettings
from formulation.network import INPUT, Add, Affine, ChannelGate, Index, MaxPool, Node, Relu, Shift
from tests.oracles.intervals import Array, Boxes, dominant, interval_bounds
from tests.oracles.values import Values, stacked, wide


@dataclass(frozen=True, eq=False)
class Unreduced:
    """The program of a scoring set, but for its loss.

    Attributes:
        lower, upper, whole: of each column: its bounds, and whether it is integer.
        rows: at least 0 each.
        equations: 0 each.
        logits: [classes] of each image.
        scores: columns by layer.
        largest: column of the sum of the largest layer terms.
        phases: columns of the ReLUs' phases `open`, and the bounds [l, u] of their pre-activations.
        labels, loss_weight: of the loss.
    """

    lower: Array
    upper: Array
    whole: NDArray[np.bool_]
    rows: Values
    equations: Values
    logits: tuple[Values, ...]
    scores: dict[str, Index]
    largest: int
    phases: dict[int, tuple[float, float]]
    labels: Index
    loss_weight: float

    def unstable(self) -> list[int]:
        """The phases that the published inequalities leave open: l < 0 < u."""
        return [column for column, (low, high) in self.phases.items() if low < 0 < high]


def write_out(
    network: Network,
    pixels: Array,
    labels: Index,
    settings: ScoreSettings,
    *,
    free_inputs: bool = False,
    equations: bool = False,
) -> Unreduced:
    """The unreduced program of a scoring set.

    Args:
        network: the lowered network.
        pixels: [inputs, images].
        labels: [images].
        settings: gate semantics, radius and pixel range, weights, and what is whole.
        free_inputs: pixels are columns that equal the image, as the program is published; otherwise data.
        equations: what an affine map makes is columns that equal it; otherwise it is put in where it is read.
    """
    writer = _Writer(network, settings, free_inputs=free_inputs, equations=equations)
    logits = tuple(writer.image(pixels[:, i]) for i in range(pixels.shape[1]))
    largest = writer.sum_of_largest()
    width = len(writer.lower)
    return Unreduced(
        np.array(writer.lower),
        np.array(writer.upper),
        np.array(writer.whole),
        stacked(writer.rows, width),
        stacked(writer.equal, width),
        tuple(Values(wide(each.weight, width), each.constant) for each in logits),
        writer.scores,
        largest,
        writer.phases,
        labels,
        settings.loss_weight,
    )


class _Writer:
    """Columns and rows in the making."""

    def __init__(self, network: Network, settings: ScoreSettings, *, free_inputs: bool, equations: bool) -> None:
        self.network, self.settings = network, settings
        self.free_inputs, self.equations = free_inputs, equations
        self.lower: list[float] = []
        self.upper: list[float] = []
        self.whole: list[bool] = []
        self.rows: list[Values] = []
        self.equal: list[Values] = []
        self.phases: dict[int, tuple[float, float]] = {}
        self.scores = {
            layer.name: self.columns(np.zeros(layer.units), np.ones(layer.units), whole=settings.integer_scores)
            for layer in network.layers
        }

    def columns(self, lower: Array, upper: Array, *, whole: bool = False) -> Index:
        """New columns within bounds."""
        first = len(self.lower)
        self.lower += list(lower)
        self.upper += list(upper)
        self.whole += [whole] * len(lower)
        return np.arange(first, len(self.lower))

    def free(self, count: int) -> Values:
        return self.of(self.columns(np.full(count, -np.inf), np.full(count, np.inf)))

    def of(self, columns: Index) -> Values:
        """Columns as values; -1 is 1."""
        there = np.flatnonzero(columns >= 0)
        weight = csr_array((np.ones(len(there)), (there, columns[there])), shape=(len(columns), len(self.lower)))
        return Values(weight, np.where(columns < 0, 1.0, 0.0))

    def score(self, positions: Index) -> Values:
        """The scores at positions in the vector of all scores, 1 where none acts (-1)."""
        every = np.append(np.concatenate([*self.scores.values()]), -1)
        return self.of(every[positions])

    def image(self, pixels: Array) -> Values:
        """Variables and inequalities of one image; its logits."""
        settings = self.settings
        centre = np.clip(pixels, *settings.pixel_range) if settings.radius > 0 else pixels
        low, high = centre - settings.radius, centre + settings.radius
        bounds = interval_bounds(self.network, low, high, valid=settings.gate == "exact")
        nominal = interval_bounds(self.network, pixels, pixels, valid=False)
        values = {INPUT: self.pixels(pixels)}
        for node in self.network.nodes:
            read = [values[name] for name in node.sources]
            values[node.name] = self.value(node, read, bounds, nominal)
        return values[self.network.nodes[-1].name]

    def pixels(self, pixels: Array) -> Values:
        if not self.free_inputs:
            return Values(csr_array((len(pixels), len(self.lower))), pixels)
        made = self.free(len(pixels))
        self.equal.append(made - pixels)
        return made

    def value(self, node: Node, read: list[Values], bounds: Boxes, nominal: Boxes) -> Values:
        """What a node makes, with its rows."""
        match node.op:
            case Affine(weight, bias):
                made = read[0].mapped(weight) + bias
                if not self.equations or not made.weight.nnz:
                    return made
                named = self.free(node.size)
                self.equal.append(named - made)
                return named
            case Add():
                return sum(read[1:], read[0])
            case Shift(score, amount):
                return read[0] + self.score(score).times(amount)
            case Relu(score):
                if self.settings.gate in ("pattern", "linear"):
                    return self.first_order(read[0], self.score(score), nominal[node.name][0])
                return self.relu(read[0], score, *bounds[node.name])
            case ChannelGate(score):
                if self.settings.gate in ("pattern", "linear"):
                    centre = nominal[node.name][0]
                    return read[0] + self.score(score).times(centre) - centre
                low, high = bounds[node.name]
                return self.relu(read[0], score, low, high) - self.relu(read[0].times(-1.0), score, -high, -low)
            case MaxPool(windows):
                return self.max_pool(read[0], windows, *bounds[node.name])

    def relu(self, y: Values, score: Index, low: Array, high: Array) -> Values:
        """(1) to (4), and h <= s u+ in `exact`.

        M is l in `published` and l - u+ in `exact`, or l where no score acts.
        """
        cap, size = np.maximum(high, 0.0), len(low)
        exact, s = self.settings.gate == "exact", self.score(score)
        big_m = np.where(exact & (score >= 0), low - cap, low)
        h = self.of(self.columns(np.zeros(size), np.full(size, np.inf)))  # (1)
        phases = self.columns(np.zeros(size), np.ones(size), whole=not self.settings.relax)
        self.phases |= dict(zip(phases.tolist(), zip(low, high, strict=True), strict=True))
        open_ = self.of(phases)
        gated = y + s.times(cap) - cap
        scale = np.where(cap > 0, 1 / np.where(cap > 0, cap, 1.0), 1.0)
        self.rows.append(open_.times(np.where(cap > 0, 1.0, 0.0)) - h.times(scale))  # (2)
        self.rows.append(h - gated)  # (3)
        self.rows.append(gated - big_m + open_.times(big_m) - h)  # (4)
        if exact:
            self.rows.append(s.times(cap) - h)
        return h

    def first_order(self, y: Values, s: Values, centre: Array) -> Values:
        """`pattern`: every phase is that of the unpruned network, and h >= 0 and y <= 0 stay; `linear`: not these."""
        active = centre > 0
        kept = y + s.times(centre) - centre
        h = kept.times(active.astype(float))
        if self.settings.gate == "pattern":
            self.rows.append(h[np.flatnonzero(active)])
            self.rows.append(y.times(-np.ones(len(centre)))[np.flatnonzero(~active)])
        return h

    def max_pool(self, read: Values, windows: Index, low: Array, high: Array) -> Values:
        """(5) to (7) over the members of the windows; the pick of a window that one input dominates is fixed.

        An input dominates where its lower bound is at least every other one's upper bound. In `pattern` (6) is asked
        for only where picked, in `linear` (5) too. `exact` adds out <= max u.
        """
        gate = self.settings.gate
        window, place = np.nonzero(windows >= 0)
        member = windows[window, place]
        top = np.array([high[each[each >= 0]].max() for each in windows])
        out = self.of(self.columns(np.full(len(top), -np.inf), top if gate == "exact" else np.full(len(top), np.inf)))
        decided, picked = dominant(window, low[member], high[member])
        least, most = np.where(decided, picked, False), np.where(decided, picked, True)
        pick = self.of(self.columns(least.astype(float), most.astype(float), whole=not self.settings.relax))
        asked = np.flatnonzero(picked) if gate == "linear" else np.arange(len(member))
        self.rows.append((out[window] - read[member])[asked])  # (5)
        asked = np.arange(len(member)) if gate in ("published", "exact") else np.flatnonzero(picked)
        slack = top[window] - low[member]
        self.rows.append((read[member] + slack - pick.times(slack) - out[window])[asked])  # (6)
        one = csr_array((np.ones(len(member)), (window, np.arange(len(member)))), shape=(len(top), len(member)))
        self.equal.append(pick.mapped(one) - np.ones(len(top)))  # (7)
        return out

    def sum_of_largest(self) -> int:
        """One column that is at least the sum of every m of the n layer terms, m = max(1, n - 1), or n in `total`."""
        (column,) = self.columns(np.array([-np.inf]), np.array([np.inf]))
        layers, kind = self.network.layers, self.settings.layer_weight
        count = len(layers) if kind == "total" else max(1, len(layers) - 1)
        together = sum(layer.units for layer in layers)
        share = {layer.name: {"units": layer.units, "kernel": layer.units * layer.kernel}.get(kind, together)
                 for layer in layers}  # fmt: skip
        for chosen in itertools.combinations(layers, count):
            row = self.of(np.array([column]))
            for layer in chosen:
                term = self.of(self.scores[layer.name]).mapped(np.full((1, layer.units), 1 / share[layer.name]))
                row = row - term + np.array([2 * layer.units / share[layer.name]])
            self.rows.append(row)
        return int(column)
