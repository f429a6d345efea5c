"""The inequalities of the design measured one by one: no solver, no reduction, no gate code.

For every image the network is walked forward in float64 with the solution's scores. A stable activation gets the value
that its inequalities force; an unstable one the value stored in the solution. Then the largest violation of
(1) to (7) (or of the cuts of `pattern`), of 0 <= s <= 1, 0 <= open, pick <= 1 and of integrality is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from formulation.network import (
    INPUT,
    Add,
    Affine,
    Array,
    ChannelGate,
    Differentiable,
    Index,
    MaxPool,
    Network,
    Relu,
    Shift,
    Unstable,
    not_lowered,
    per_activation,
    with_relu_gates,
)
from formulation.relaxation import Box, input_box, propagate
from formulation.score_settings import ScoreSettings
from formulation.verify.unstable_values import refuse_missing, require_nodes, stored_places
from naming import FIRST_ORDER

Mask = NDArray[np.bool_]
Residual = tuple[str, float]

BATCH = 64  # images held at once
ROUNDING = 1e-9  # bounds this close to 0, or to each other, may have fallen either way: sums round differently


def measure_residuals(
    network: Network,
    pixels: Array,
    scores: Mapping[str, Array],
    unstable: Mapping[str, Unstable],
    settings: ScoreSettings,
) -> tuple[Array, list[Residual]]:
    """Logits [classes, images], and residuals of each family of constraints with its name, batch after batch of images.

    Raises:
        InvalidSolution: values of unstable activations are missing or name activations that do not exist.
    """
    network = network if settings.gate in FIRST_ORDER else with_relu_gates(network)
    require_nodes(network, unstable, settings)
    images = pixels.shape[1]
    if network.differentiable is not None:
        return _first_order(network, network.differentiable, pixels, scores), _of_scores(scores, settings)
    for name, stored in unstable.items():
        stored_places(stored, (network.size(name), images))
    logits: list[Array] = []
    residuals: list[Residual] = []
    for first in range(0, images, BATCH):
        where = slice(first, min(first + BATCH, images))
        some = {name: stored.of_images(where) for name, stored in unstable.items()}
        found, measured = _pass_forward(network, pixels[:, where], scores, some, settings)
        logits.append(found)
        residuals += measured
    return np.concatenate(logits, axis=1), residuals


def _first_order(network: Network, whole: Differentiable, pixels: Array, scores: Mapping[str, Array]) -> Array:
    """Logits of a network that can only be differentiated: by a pass forwards, where the search went backwards."""
    step = per_activation(network.stack(scores), whole.score) - 1
    parts = (whole.passes.along(pixels[:, k : k + BATCH], step) for k in range(0, pixels.shape[1], BATCH))
    return np.concatenate(list(parts), axis=1)


def _of_scores(scores: Mapping[str, Array], settings: ScoreSettings) -> list[Residual]:
    found = [(f"0 <= score <= 1 of '{name}'", outside(s, 0.0, 1.0)) for name, s in scores.items()]
    if settings.integer_scores:
        found += [(f"integrality of the scores of '{name}'", fraction(s)) for name, s in scores.items()]
    return found


def _pass_forward(
    network: Network,
    pixels: Array,
    scores: Mapping[str, Array],
    unstable: Mapping[str, Unstable],
    settings: ScoreSettings,
) -> tuple[Array, list[Residual]]:
    """`measure_residuals` for one batch of the images."""
    bounds = centres = propagate(network, Box.at(pixels), valid=False)
    if settings.radius > 0 or settings.gate == "exact":
        box = input_box(pixels, settings.radius, settings.pixel_range)
        bounds = propagate(network, box, valid=settings.gate == "exact")
    residuals = _of_scores(scores, settings)
    stacked = network.stack(scores)
    values = {INPUT: pixels}
    for node in network.nodes:
        sources = [values[name] for name in node.sources]
        found: list[Residual] = []
        match node.op:
            case Affine():
                values[node.name] = node.op.apply(*sources)
            case Add():
                values[node.name] = np.sum(sources, axis=0)
            case Shift(score, amount):
                values[node.name] = sources[0] + (amount * per_activation(stacked, score))[:, None]
            case ChannelGate(score):
                lost = (1 - per_activation(stacked, score))[:, None] * centres[node.source].lower
                values[node.name] = sources[0] - lost
            case Relu(score):
                s, centre = per_activation(stacked, score)[:, None], centres[node.source].lower
                if settings.gate == "linear":
                    values[node.name] = np.where(centre > 0, sources[0] - (1 - s) * centre, 0.0)
                elif settings.gate == "pattern":
                    values[node.name], found = _pattern_relu(sources[0], s, centre)
                else:
                    relu = _Relu(sources[0], s, (score >= 0)[:, None], bounds[node.source], unstable.get(node.name))
                    values[node.name], found = relu.exact() if settings.gate == "exact" else relu.published()
            case MaxPool(windows):
                pool = _Pool(sources[0], windows, bounds[node.source], unstable.get(node.name), settings)
                values[node.name], found = pool.measured()
            case Differentiable():
                raise not_lowered("a pass through its operations")
            case _:
                assert_never(node.op)
        residuals += [(f"{what} of '{node.name}'", amount) for what, amount in found]
        if not settings.relax and node.name in unstable:
            residuals.append((f"integrality of open or pick in '{node.name}'", fraction(unstable[node.name].phase)))
    return values[network.nodes[-1].name], residuals


def _pattern_relu(y: Array, s: Array, centre: Array) -> tuple[Array, list[Residual]]:
    """Active: h = y - (1 - s) c >= 0. Inactive: h = 0, y <= 0. Both leave max(0, y) where c is 0 but for rounding."""
    is_open, either = centre > 0, (centre != 0) & (np.abs(centre) <= ROUNDING)
    shifted = y - (1 - s) * np.maximum(centre, 0.0)
    scale = np.maximum(1.0, np.abs(centre))
    rows = [
        ("h >= 0 of an active unit", np.where(is_open & ~either, -shifted, 0) / scale),
        ("y <= 0 of an inactive unit", np.where(is_open | either, 0, y) / scale),
    ]
    h = np.select([either, is_open], [np.maximum(shifted, 0.0), shifted], 0.0)
    return h, [(what, float(np.max(r, initial=0.0))) for what, r in rows]


@dataclass(frozen=True, eq=False)
class _Relu:
    """One gated ReLU: pre-activations, scores and whether one acts per activation, bounds, stored unstable values."""

    y: Array
    s: Array
    scored: Mask
    box: Box
    stored: Unstable | None

    def published(self) -> tuple[Array, list[Residual]]:
        """M = l; l >= 0 < u is active, u <= 0 inactive, all else is stored."""
        lower, upper = self.box.lower, self.box.upper
        is_open = (lower >= -ROUNDING) & (upper > 0)
        h, open_ = self._values(stable=(lower >= -ROUNDING) | (upper <= ROUNDING), is_open=is_open)
        return h, list(self._inequalities(h, open_, self.box.lower))

    def exact(self) -> tuple[Array, list[Residual]]:
        """M = l - u+; u <= 0 is inactive, a constant pre-activation stable by its sign, all else is stored.

        Where no score acts, M = l, and l >= 0 is active.
        """
        cap = np.maximum(self.box.upper, 0.0)
        constant = self.box.upper - self.box.lower <= ROUNDING
        plain = ~self.scored & (self.box.lower >= -ROUNDING)
        stable = constant | plain | (self.box.upper <= ROUNDING)
        h, open_ = self._values(stable=stable, is_open=(constant | plain) & (self.box.upper > 0))
        found = list(self._inequalities(h, open_, self.box.lower - np.where(self.scored, cap, 0.0)))
        return h, [*found, ("h <= s u+", float(np.max((h - self.s * cap) / np.maximum(1.0, cap), initial=0.0)))]

    def _values(self, *, stable: Mask, is_open: Mask) -> tuple[Array, Array]:
        shifted = self.y - (1 - self.s) * np.maximum(self.box.upper, 0.0)
        open_ = np.where(stable & is_open, 1.0, 0.0)
        h = np.where(stable & is_open, shifted, 0.0)
        missing = ~stable
        if self.stored is not None:
            j, i = stored_places(self.stored, h.shape)
            h[j, i], open_[j, i] = self.stored.value, self.stored.phase[:, 0]
            missing[j, i] = False
        refuse_missing(missing)
        return h, open_

    def _inequalities(self, h: Array, open_: Array, big_m: Array) -> Iterator[Residual]:
        cap = np.maximum(self.box.upper, 0.0)
        scale = np.maximum(1.0, np.maximum(cap, np.abs(big_m)))
        shifted = self.y - (1 - self.s) * cap
        rows = {
            "h >= 0 (1)": -h,
            "h <= open u+ (2)": h - open_ * cap,
            "h >= y - (1 - s) u+ (3)": shifted - h,
            "h <= y - (1 - s) u+ - (1 - open) M (4)": h - shifted + (1 - open_) * big_m,
        }
        for what, residual in rows.items():
            yield what, float(np.max(residual / scale, initial=0.0))
        yield "0 <= open <= 1", outside(open_, 0.0, 1.0)


@dataclass(frozen=True, eq=False)
class _Pool:
    """One max-pool: its inputs, windows, their bounds, and the stored unstable values."""

    h: Array
    windows: Index
    box: Box
    stored: Unstable | None
    settings: ScoreSettings

    def measured(self) -> tuple[Array, list[Residual]]:
        """Outputs, and residuals of (5) to (7). In `pattern` the bounds are one point and (6) is not asked for, nor
        is (5) in `linear`, whose output is the first dominant input.
        """
        there = (self.windows >= 0)[:, :, None]
        h = np.where(there, self.h[self.windows], -np.inf)
        lower = np.where(there, self.box.lower[self.windows], -np.inf)
        upper = np.where(there, self.box.upper[self.windows], -np.inf)
        largest = h.max(axis=1)
        out, pick, stable = self._values(lower, upper)
        slack = upper.max(axis=1, keepdims=True) - np.where(there, lower, 0.0)
        scale = np.maximum(1.0, np.where(there, np.abs(upper), 0.0).max(axis=1))
        below = np.where(there, out[:, None] - np.where(there, h, 0.0) - (1 - pick) * slack, -np.inf).max(axis=1)
        if self.settings.gate == "linear":
            return out, []
        found = [
            ("out >= h_j (5)", float(np.max((largest - out) / scale, initial=0.0))),
            (
                "out <= max h_j of a stable window",
                float(np.max(np.where(stable, out - largest, 0) / scale, initial=0.0)),
            ),
            ("0 <= pick <= 1", outside(np.where(there, pick, 0.0), 0.0, 1.0)),
            ("sum of picks (7)", float(np.max(np.abs(pick.sum(axis=1) - 1), initial=0.0))),
        ]
        if self.settings.gate == "exact":
            found.append(("out <= max u", float(np.max((out - upper.max(axis=1)) / scale, initial=0.0))))
        if self.settings.gate != "pattern":
            found.append(("out <= h_j + (1 - pick_j) (max u - l_j) (6)", float(np.max(below / scale, initial=0.0))))
        return out, found

    def _values(self, lower: Array, upper: Array) -> tuple[Array, Array, Mask]:
        """Outputs, picks, and which windows are stable: there the largest dominant input is out; all else is stored."""
        rivals = np.sort(upper, axis=1)[:, ::-1]
        top, second = rivals[:, :1], rivals[:, 1:2] if upper.shape[1] > 1 else np.full_like(rivals[:, :1], -np.inf)
        others = np.where(upper >= top, second, top)
        # an input with the largest upper bound has the second largest as its rival, any other one the largest
        dominant = np.isfinite(upper) & (lower >= others - ROUNDING)
        h = np.where(np.isfinite(upper), self.h[self.windows], -np.inf)
        best = np.argmax(np.where(dominant, h, -np.inf), axis=1)
        out = np.take_along_axis(h, best[:, None], axis=1)[:, 0]
        pick = np.zeros(upper.shape)
        np.put_along_axis(pick, best[:, None], 1.0, axis=1)
        stable: Mask = np.any(dominant, axis=1)
        missing = ~stable
        if self.stored is not None:
            j, i = stored_places(self.stored, out.shape)
            out[j, i], pick[j, :, i] = self.stored.value, self.stored.phase
            missing[j, i] = False
        refuse_missing(missing)
        return out, pick, stable


def outside(values: Array, low: float, high: float) -> float:
    """How far the values leave [low, high] at most."""
    return float(np.max(np.maximum(low - values, values - high), initial=0.0))


def fraction(values: Array) -> float:
    """How far the values are from whole numbers at most."""
    return float(np.max(np.abs(values - np.round(values)), initial=0.0))
