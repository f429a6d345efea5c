"""Settings of the pruning: what goes, in which steps, what it is compared with, and what comes after it."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from flows.config.groups.setting_kinds import (
    CONTROLS,
    MOST,
    Count,
    CountOrNone,
    Part,
    Positive,
    RuleName,
    SettingsGroup,
    Share,
    Traits,
)
from naming import USUAL_REFIT_IMAGES, USUAL_TOLERANCE, did_you_mean


class SelectionSettings(SettingsGroup):
    """Units to remove."""

    rule: Annotated[RuleName, Traits(title=1, report=True, column=True)] = Field(
        "program", description="what ranks the units: the program, or a simple rule"
    )
    selection: Annotated[
        Literal["tolerance", "threshold", "layer_mean", "share", "quantile", "budget", "program"],
        Traits(title=1, report=True, published="threshold", column=True),
    ] = Field(
        "tolerance",
        description="what goes by: tolerance, threshold, layer_mean, share (of each layer), quantile (of all units), "
        "budget, or program (the mask program at the share of each layer, proved)",
    )
    threshold: Annotated[Share, Traits(title=1, report=True, sweep="0.1,0.3,0.5,0.7,0.9", published="0.1")] = Field(
        0.5, description="a unit with a score below this is removed"
    )
    share: Annotated[Part, Traits(title=1, column=True)] = Field(
        0.5, description="part of each layer (share) or of all units (quantile) that is removed"
    )
    budget: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False), Traits(title=1)] = Field(
        0.5, description="part of the whole network's cost that may remain"
    )
    budget_on: Literal["parameters", "multiply_adds", "latency"] = Field(
        "parameters", description="parameters, multiply_adds, or latency (seconds, measured on this machine's CPU)"
    )
    refit_weight: Annotated[Positive, Traits(later=True)] = Field(
        0.1, description="price of changing a surviving weight in selection=program; large: the weights stay"
    )
    temperature: Annotated[Positive, Traits(later=True)] = Field(
        4.0, description="at which selection=program softens the network's own answers"
    )
    tolerance: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False), Traits(title=1, later=True, column=True)] = (
        Field(USUAL_TOLERANCE, description="points of validation accuracy that selection=tolerance may cost")
    )
    floor: Count = Field(1, description="units that every layer keeps at least")
    round_to: Count = Field(1, description="kept widths are rounded up to a multiple of this")
    leave_alone: str = Field(
        "", description="layers that keep all units: names or patterns such as features.*, by commas"
    )


class RemovalSettings(SettingsGroup):
    """Steps of removal."""

    schedule: Annotated[Literal["one_shot", "iterative"], Traits(title=1, report=True)] = Field(
        "one_shot", description="remove at once, or in steps and rank the pruned network again at each"
    )
    when: Literal["during_training", "at_initialisation"] = Field(
        "during_training", description="when gradual removes: between epochs, or before the first"
    )
    every: Count = Field(1, description="epochs before each removal of when=during_training")
    steps: Count = Field(16, description="removals of schedule=iterative and of gradual")
    exchange: Annotated[int, Field(ge=-1, le=MOST)] = Field(
        -1, description="swaps of units tried after a removal; -1: 100 if iterative or selection=program, else 0"
    )
    recalibrate: bool = Field(False, description="measure BatchNorm statistics anew after a removal")
    refit: Annotated[Literal["auto", "true", "false"], Traits(report=True, published="false", later=True)] = Field(
        "auto",
        description="fit surviving weights anew after removal, without labels; auto: unless validation accuracy falls",
    )
    refit_images: Annotated[Count, Traits(later=True)] = Field(
        USUAL_REFIT_IMAGES, description="training images that surviving weights are fitted to"
    )


class ComparisonSettings(SettingsGroup):
    """Baselines."""

    compare: str = Field(
        "random,critical", description="rules to compare with at the same counts, by commas; all, or none"
    )
    draws: Count = Field(5, description="random masks to compare with, at the same counts per layer")

    @field_validator("compare")
    @classmethod
    def _known_rules(cls, value: str) -> str:
        names = [name.strip() for name in value.split(",") if name.strip()]
        if names == ["none"]:
            return ""
        if names == ["all"]:
            return value
        for name in names:
            if name not in CONTROLS:
                hint = did_you_mean(name, CONTROLS, most=3)
                guess = f" ({hint})" if hint else ""
                raise ValueError(
                    f"must be all, none, or some of {', '.join(CONTROLS)}: there is no rule {name!r}{guess}"
                )
        return value


class RetrainingSettings(SettingsGroup):
    """Retraining."""

    retrain_epochs: Annotated[CountOrNone, Traits(report=True)] = Field(
        1, description="epochs of training after pruning"
    )


class CompactionSettings(SettingsGroup):
    """Compaction."""

    export: Literal["none", "torch", "onnx", "all"] = Field(
        "all", description="also log the compacted network for other runtimes: torch (.pt2), onnx, all of them, or none"
    )


class PrunePart(CompactionSettings, RetrainingSettings, ComparisonSettings, RemovalSettings, SelectionSettings):
    """Everything about pruning and what comes after it."""
