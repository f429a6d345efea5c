"""Settings of a score call: one frozen, self-validating value."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from formulation.errors import InvalidSetting
from naming import (
    FIRST_ORDER,
    USUAL_GATE,
    USUAL_LOSS_WEIGHT,
    USUAL_RADIUS,
    CutForm,
    DerivativesOf,
    GateName,
    LayerWeight,
    ScoreLoss,
)

LARGEST = sys.float_info.max


@dataclass(frozen=True)
class ScoreSettings:
    """The settings of one score call; the paper's are gate="published", loss_weight=5, radius=1e-5.

    Attributes:
        loss_weight: weight of the mean loss in the objective (lambda in the paper), > 0; of `squared` per square of the
            targets' own units.
        radius: half-width of the input box around each image, in pixel units, >= 0; `pattern` and `linear` demand 0.
        gate: what a score does to an activation: `published`, `pattern`, `linear` or `exact`.
        relax: let the ReLU phases (`open`) of unstable activations range over [0, 1].
        layer_weight: the denominator N_k of a layer's sparsity term; `total`: every layer's term counts, so that the
            sum is the number of critical units, whatever their layer, over the number of units.
        solver: any solver that linopy knows; `highs` is always there.
        solver_options: passed to the solver as they are, by the options' names.
        time_limit: seconds for the whole call, > 0.
        gap: relative gap (objective - bound) / max(1, |objective|) at which the call ends, > 0.
        cuts: how the cross-entropy is approximated from below.
        integer_scores: demand scores in {0, 1}.
        allow_degenerate: ask by name for the relaxation of `exact`, in which nearly all scores fall to 0.
        pixel_range: the range that pixels are clipped to before the radius is added; with radius=0 it is not read.
        break_ties: among the solutions within the gap take the one with the fewest critical units in all layers.
        max_rounds: rounds of outer approximation after which the call ends.
        threads: solver threads.
        held: layers whose scores are all held at 1: they are not scored, and no term of the objective counts them.
        derivatives: of `linear`: those of the lowered network (`lowering`), torch's (`autograd`), or `auto`: the
            lowered network's where it can be lowered, torch's elsewhere.
        loss: `cross_entropy` over classes, or `squared`: the mean squared error of the outputs against quantities,
            |o - z|^2 / K, which `linear` takes. `MaskSettings.loss` has another `squared`, without targets.

    Raises:
        InvalidSetting: a value outside its range, named with the range.
    """

    loss_weight: float = USUAL_LOSS_WEIGHT
    radius: float = USUAL_RADIUS
    gate: GateName = USUAL_GATE
    relax: bool = True
    layer_weight: LayerWeight = "units"
    solver: str = "highs"
    solver_options: Mapping[str, Any] = field(default_factory=dict)
    time_limit: float = 600.0
    gap: float = 1e-4
    cuts: CutForm = "tangent"
    integer_scores: bool = False
    allow_degenerate: bool = False
    pixel_range: tuple[float, float] = (0.0, 1.0)
    break_ties: bool = True
    max_rounds: int = 1000
    threads: int = 1
    held: tuple[str, ...] = ()
    derivatives: DerivativesOf = "auto"
    loss: ScoreLoss = "cross_entropy"

    def __post_init__(self) -> None:
        words = {
            "gate": GateName,
            "layer_weight": LayerWeight,
            "cuts": CutForm,
            "derivatives": DerivativesOf,
            "loss": ScoreLoss,
        }
        for name, options in words.items():
            if not isinstance(getattr(self, name), str) or getattr(self, name) not in get_args(options):
                raise InvalidSetting(
                    f"{name}={getattr(self, name)!r} is unknown; use one of {', '.join(get_args(options))}"
                )
        for name in ("loss_weight", "radius", "time_limit", "gap", "max_rounds", "threads"):
            object.__setattr__(self, name, _plain(getattr(self, name)))
        for name in ("loss_weight", "time_limit", "gap"):
            _require(name, getattr(self, name), lambda v: v > 0, "greater than 0")
        _require("radius", self.radius, lambda v: v >= 0, "0 or greater")
        for name in ("max_rounds", "threads"):
            _require(name, getattr(self, name), lambda v: v >= 1 and isinstance(v, int), "a whole number of at least 1")
        for name in ("relax", "integer_scores", "allow_degenerate", "break_ties"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidSetting(f"{name}={getattr(self, name)!r} is neither True nor False")
        if not isinstance(self.solver, str) or not isinstance(self.solver_options, Mapping):
            raise InvalidSetting("solver must be a name and solver_options a mapping of option names to values")
        for option in self.solver_options:
            if not isinstance(option, str):
                raise InvalidSetting(f"solver_options has the key {option!r}; its keys must be names of options")
        if not isinstance(self.pixel_range, tuple) or len(self.pixel_range) != 2:
            raise InvalidSetting(f"pixel_range={self.pixel_range!r} is no pair; give (lowest, highest) pixel value")
        object.__setattr__(self, "pixel_range", tuple(_plain(bound) for bound in self.pixel_range))
        for bound in self.pixel_range:
            _require("pixel_range", bound, lambda v: True, "a pair of finite numbers")
        if not self.pixel_range[0] < self.pixel_range[1]:
            raise InvalidSetting(f"pixel_range={self.pixel_range} is empty; give (lowest, highest) pixel value")
        if self.gate in FIRST_ORDER and self.radius != 0:
            raise InvalidSetting(
                f"gate='{self.gate}' is defined at radius 0 only, found radius={self.radius}; set radius=0"
            )
        if self.gate == "exact" and self.relax and not self.allow_degenerate:
            raise InvalidSetting(
                "the relaxation of gate='exact' is degenerate (nearly all scores fall to 0); "
                "set relax=False, or ask for it by name with allow_degenerate=True"
            )
        if self.derivatives == "autograd" and self.gate != "linear":
            raise InvalidSetting(
                f"derivatives='autograd' is of gate='linear', found gate='{self.gate}'; set gate='linear'"
            )
        if self.loss == "squared" and self.gate != "linear":
            raise InvalidSetting(f"loss='squared' is of gate='linear', found gate='{self.gate}'; set gate='linear'")
        if self.loss == "squared" and self.cuts != "tangent":
            raise InvalidSetting(
                f"cuts='{self.cuts}' are of the cross-entropy, found loss='squared'; set cuts='tangent'"
            )
        held: Any = self.held
        if isinstance(held, str) or not all(isinstance(name, str) for name in held):
            raise InvalidSetting(f"held={self.held!r} is no tuple of layer names; give ('fc1',), say")
        object.__setattr__(self, "held", tuple(held))
        # a copy: later changes of the caller's options stay outside; a read-only view could not be pickled
        object.__setattr__(self, "solver_options", dict(self.solver_options))

    def objective(self, loss: float, sparsity: float) -> float:
        """The objective lambda * (mean loss) + (sparsity term)."""
        return self.loss_weight * loss + sparsity

    def image_weight(self, images: int) -> float:
        """What the loss of one of so many images counts for in the objective: lambda / images."""
        return self.loss_weight / images

    def for_highs(self) -> ScoreSettings:
        """The same settings for HiGHS, where another solver's options mean nothing."""
        return self if self.solver == "highs" else replace(self, solver="highs", solver_options={})

    def to_dict(self) -> dict[str, Any]:
        """All settings as plain JSON-able values."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return plain | {
            "solver_options": dict(self.solver_options),
            "pixel_range": list(self.pixel_range),
            "held": list(self.held),
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> ScoreSettings:
        """The inverse of `to_dict`."""
        return ScoreSettings(**{**values, "pixel_range": tuple(values["pixel_range"])})


def require_settings(value: Any) -> None:
    """Raise InvalidSetting for anything but `ScoreSettings`."""
    if not isinstance(value, ScoreSettings):
        raise InvalidSetting(f"settings is {type(value).__name__}; give ScoreSettings(...)")


def _plain(value: Any) -> Any:
    """A number of any kind, numpy's too, as Python's own, which JSON knows; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _require(name: str, value: Any, holds: Any, range_in_words: str) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST
    if not number or not holds(value):
        raise InvalidSetting(f"{name}={value!r} is out of range; it must be {range_in_words}")
