"""The independent replay: no solver, no reduction, no gate code; the inequalities of the design, one by one.

For every image the network is walked forward in float64 with the solution's scores. A decided activation gets the value
that its inequalities force; an undecided one the value stored in the solution. Then the largest violation of
(1) to (4) (or of the rows of `pattern`), of 0 <= s <= 1, 0 <= open <= 1 and of integrality is measured, and the
objective is computed again from the logits and by sorting the layer terms.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from formulation.bounds import Box, input_box, propagate
from formulation.errors import CheckFailed, InvalidSetting, InvalidSolution
from formulation.images import checked_labels, flatten_images, images_digest, require_fit
from formulation.loss import cross_entropy
from formulation.lowering import lower
from formulation.network import INPUT, Affine, Array, Index, Network, Relu
from formulation.settings import ScoreSettings
from formulation.solution import Solution, Undecided
from formulation.sparsity import sparsity

Mask = NDArray[np.bool_]

TOLERANCE = 1e-6  # of a residual, relative to the activation's own bound where that exceeds 1; and of the objective
ROUNDING = 1e-9  # bounds this close to 0 may have been decided either way: sums round differently in other batches


@dataclass(frozen=True)
class Verdict:
    """What the replay measured: the largest residual and where, the objective again, and the gap."""

    largest_residual: float
    where: str
    objective: float
    bound: float
    gap: float
    images: int


def check(model: Any, images: Any, labels: Any, solution: Solution) -> Verdict:
    """Check a stored solution against the model and the images it claims to be about.

    Raises:
        InvalidSolution: another model or other images than the certificate names, or values of the wrong form.
        CheckFailed: a constraint is violated, or the objective, one of its parts, bound or gap is not what the
            certificate says.
    """
    pixels = flatten_images(images)
    classes = checked_labels(labels, pixels.shape[1])
    network = lower(model, images)
    if network.digest() != solution.certificate.model_hash:
        raise InvalidSolution("the solution was made for another network (model_hash differs); score this one")
    if images_digest(pixels, classes) != solution.certificate.images_hash:
        raise InvalidSolution("the solution was made for other images or labels (images_hash differs); score these")
    return verify(network, pixels, classes, solution)


def verify(network: Network, pixels: Array, labels: Index, solution: Solution) -> Verdict:
    """`check` for a lowered network and flattened images."""
    claimed = solution.certificate
    settings = _settings(claimed.settings)
    require_fit(network, pixels, labels, settings)
    scores = _scores(network, solution)
    logits, residuals = _replay(network, pixels, scores, solution.undecided, settings)
    where, largest = max(residuals, key=lambda item: np.inf if np.isnan(item[1]) else item[1])
    if not largest <= TOLERANCE:
        raise CheckFailed(
            f"the solution violates {where} by {largest:.3g} (tolerance {TOLERANCE:g}); do not use these scores"
        )
    loss = float(cross_entropy(logits, labels).mean())
    term = sparsity(network, network.stack(scores), settings.layer_weight)
    objective = settings.loss_weight * loss + term
    gap = max(0.0, objective - claimed.bound) / max(1.0, abs(objective))
    slack = TOLERANCE * max(1.0, abs(objective))
    _agree("objective", claimed.objective, objective, slack)
    _agree("cross-entropy", claimed.cross_entropy, loss, slack)
    _agree("sparsity", claimed.sparsity, term, slack)
    _agree("gap", claimed.gap, gap, slack)
    if not claimed.bound <= objective + slack:
        raise CheckFailed(
            f"the certificate's bound {claimed.bound:.9g} exceeds the objective {objective:.9g}; the solver was wrong"
        )
    if claimed.status == "optimal" and not gap <= settings.gap + slack:
        raise CheckFailed(f"the certificate says optimal at a gap of {gap:.3g}, but {settings.gap:g} was asked for")
    return Verdict(largest, where, objective, claimed.bound, gap, pixels.shape[1])


def _settings(stored: Mapping[str, Any]) -> ScoreSettings:
    try:
        return ScoreSettings.from_dict(stored)
    except (TypeError, KeyError, InvalidSetting) as error:
        raise InvalidSolution(f"the settings in the certificate are damaged ({error}); score again") from error


def _scores(network: Network, solution: Solution) -> dict[str, Array]:
    found = {name: np.asarray(values) for name, values in solution.scores.items()}
    wanted = {name: (units,) for name, units in network.units.items()}
    if {name: values.shape for name, values in found.items()} != wanted:
        raise InvalidSolution(
            f"the scores are for layers {sorted(found)}, the network has {sorted(wanted)}, or their widths differ"
        )
    if not all(np.issubdtype(values.dtype, np.number) for values in found.values()):
        raise InvalidSolution("the scores are not numbers; score again")
    return {name: values.astype(float) for name, values in found.items()}


def _replay(
    network: Network, pixels: Array, scores: dict[str, Array], undecided: Any, settings: ScoreSettings
) -> tuple[Array, list[tuple[str, float]]]:
    """Logits, and the largest residual of each family of constraints with its name."""
    boxes = propagate(network, input_box(pixels, settings.radius, settings.pixel_range), valid=settings.gate == "exact")
    centres = propagate(network, Box(pixels, pixels), valid=False)
    residuals = [(f"0 <= score <= 1 of '{name}'", _outside(s, 0.0, 1.0)) for name, s in scores.items()]
    if settings.integer_scores:
        residuals += [(f"integrality of the scores of '{name}'", _fraction(s)) for name, s in scores.items()]
    values = {INPUT: pixels}
    for node in network.nodes:
        y = values[node.source]
        match node.op:
            case Affine():
                values[node.name] = node.op.apply(y)
            case Relu(layer, unit):
                s = scores[layer][unit][:, None]
                box, centre = boxes[node.source], centres[node.source].lower
                if settings.gate == "pattern":
                    values[node.name], found = _pattern(y, s, centre)
                else:
                    relu = _Relu(y, s, box, centre, undecided.get(layer))
                    values[node.name], found = relu.exact() if settings.gate == "exact" else relu.published()
                    if not settings.relax and layer in undecided:
                        residuals.append((f"integrality of open in '{layer}'", _fraction(undecided[layer].open)))
                residuals += [(f"{what} of '{layer}'", amount) for what, amount in found]
            case _:
                assert_never(node.op)
    return values[network.nodes[-1].name], residuals


def _pattern(y: Array, s: Array, centre: Array) -> tuple[Array, list[tuple[str, float]]]:
    """Open: h = y - (1 - s) c >= 0. Closed: h = 0, y <= 0."""
    is_open = centre > 0
    shifted = y - (1 - s) * centre
    scale = np.maximum(1.0, np.abs(centre))
    rows = [
        ("h >= 0 of an open unit", np.where(is_open, -shifted, 0) / scale),
        ("y <= 0 of a closed unit", np.where(is_open, 0, y) / scale),
    ]
    return np.where(is_open, shifted, 0.0), [(what, float(np.max(r, initial=0.0))) for what, r in rows]


@dataclass(frozen=True, eq=False)
class _Relu:
    """One gated ReLU: pre-activations, scores per activation, bounds, and the stored undecided values."""

    y: Array
    s: Array
    box: Box
    centre: Array
    stored: Undecided | None

    def published(self) -> tuple[Array, list[tuple[str, float]]]:
        """M = l; l >= 0 < u is open, u <= 0 closed, all else is stored."""
        lower, upper = self.box.lower, self.box.upper
        is_open = (lower >= -ROUNDING) & (upper > 0)
        h, open_ = self._values(decided=(lower >= -ROUNDING) | (upper <= ROUNDING), is_open=is_open)
        return h, list(self._inequalities(h, open_, self.box.lower))

    def exact(self) -> tuple[Array, list[tuple[str, float]]]:
        """M = l - u+; u <= 0 is closed, a constant pre-activation decided by its sign, all else is stored."""
        cap = np.maximum(self.box.upper, 0.0)
        constant = self.box.upper - self.box.lower <= ROUNDING
        h, open_ = self._values(
            decided=constant | (self.box.upper <= ROUNDING), is_open=constant & (self.box.upper > 0)
        )
        found = list(self._inequalities(h, open_, self.box.lower - cap))
        return h, [*found, ("h <= s u+", float(np.max((h - self.s * cap) / np.maximum(1.0, cap), initial=0.0)))]

    def _values(self, *, decided: Mask, is_open: Mask) -> tuple[Array, Array]:
        shifted = self.y - (1 - self.s) * np.maximum(self.box.upper, 0.0)
        open_ = np.where(decided & is_open, 1.0, 0.0)
        h = np.where(decided & is_open, shifted, 0.0)
        missing = ~decided
        if self.stored is not None:
            j, i = self.stored.where.T
            if len(j) and not (min(j.min(), i.min()) >= 0 and j.max() < h.shape[0] and i.max() < h.shape[1]):
                raise InvalidSolution("the solution has values for activations that do not exist; score again")
            h[j, i], open_[j, i] = self.stored.hidden, self.stored.open
            missing[j, i] = False
        if missing.any():
            raise InvalidSolution(
                f"the solution lacks the values of {int(missing.sum())} undecided activations; score again"
            )
        return h, open_

    def _inequalities(self, h: Array, open_: Array, big_m: Array) -> Iterator[tuple[str, float]]:
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
        yield "0 <= open <= 1", _outside(open_, 0.0, 1.0)


def _outside(values: Array, low: float, high: float) -> float:
    return float(np.max(np.maximum(low - values, values - high), initial=0.0))


def _fraction(values: Array) -> float:
    return float(np.max(np.abs(values - np.round(values)), initial=0.0))


def _agree(what: str, claimed: float, found: float, slack: float) -> None:
    if not abs(claimed - found) <= slack:
        raise CheckFailed(
            f"the certificate says {what} {claimed:.9g}, the replay finds {found:.9g}; "
            "the solution was altered or the solver was wrong"
        )
