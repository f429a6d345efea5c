"""Settings of the scores: images, program and solver, blocks, and what solves programs at the same time."""

import json
from typing import Annotated, Literal

from pydantic import Field, field_validator

from flows.config.groups.setting_kinds import (
    PLACE,
    Count,
    CountOrNone,
    NotEmpty,
    NotNegative,
    Positive,
    Seconds,
    SettingsGroup,
    Threads,
    Traits,
)
from naming import (
    USUAL_GATE,
    USUAL_IMAGES_PER_CLASS,
    USUAL_LOSS_WEIGHT,
    USUAL_RADIUS,
    CutForm,
    GateName,
    LayerWeight,
)


class PresetSettings(SettingsGroup):
    """Several settings by one word."""

    preset: Annotated[Literal["none", "published"], Traits(title=0, report=True, later=True)] = Field(
        "none", description="none, or published: the paper's program; what is given beside it wins"
    )


class SampleSettings(SettingsGroup):
    """Scoring images."""

    # One set: scores of so many images agree between sets, and digits has no room for a second one.
    images_per_class: Annotated[Count, Traits(title=5, report=True, sweep="1,2,5,10,20", published="1")] = Field(
        USUAL_IMAGES_PER_CLASS,
        description="images of each class in one scoring set; as many as there are where the usual number is not",
    )
    scoring_sets: Annotated[Count, Traits(title=5, report=True, published="1")] = Field(
        1, description="scoring sets; the scores are averaged over them"
    )
    sets_seed: Annotated[int, Field(ge=-1, lt=2**32)] = Field(
        -1, description="seed of the scoring sets' draw alone; -1: as seed"
    )
    order: Literal["random", "least_confident"] = Field("random", description="how scoring images are drawn")


class ProgramSettings(SettingsGroup):
    """Program and solver."""

    loss_weight: Annotated[Positive, Traits(title=3, report=True, sweep="0.03,0.1,0.3,1,3", published="5.0")] = Field(
        USUAL_LOSS_WEIGHT, description="weight of the cross-entropy against the sparsity"
    )
    radius: Annotated[NotNegative, Traits(title=3, report=True, sweep="0,1e-5,1e-4,1e-3", published="1e-5")] = Field(
        USUAL_RADIUS, description="half-width of the input box around each image, in pixel units"
    )
    gate: Annotated[
        GateName,
        Traits(title=2, report=True, sweep="linear,pattern,published", published="published"),
    ] = Field(USUAL_GATE, description="what a score does to an activation")
    relax: Annotated[bool, Traits(title=2, report=True, published="true")] = Field(
        True, description="relax the binary open variables to [0, 1]"
    )
    integer_scores: Annotated[bool, Traits(title=3)] = Field(False, description="scores 0 or 1 only")
    layer_weight: Annotated[LayerWeight, Traits(published="kernel")] = Field(
        "units", description="what a layer's term is divided by"
    )
    allow_degenerate: bool = Field(False, description="allow gate=exact with relax=true, whose scores mean little")
    solver: Annotated[NotEmpty, Traits(report=True)] = Field(
        "highs", description="a solver that linopy finds installed"
    )
    solver_options: str = Field("{}", description="options handed to the solver, as a JSON object")
    time_limit: Annotated[Seconds, Traits(report=True)] = Field(600.0, description="seconds for one scoring set")
    gap: Annotated[Positive, Traits(report=True)] = Field(
        1e-4, description="relative gap at which a solution counts as optimal"
    )
    cuts: CutForm = Field("tangent", description="form of the loss's outer approximation")
    break_ties: bool = Field(True, description="within the gap, keep no score up that nothing asks for")

    @field_validator("solver_options")
    @classmethod
    def _json_object(cls, value: str) -> str:
        try:
            options = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f'must be a JSON object such as {{"presolve": "off"}} ({error})') from error
        if not isinstance(options, dict):
            raise ValueError('must be a JSON object such as {"presolve": "off"}')
        return value


class BlockSettings(SettingsGroup):
    """Scoring by block."""

    blocks: Annotated[NotEmpty, Traits(title=1, report=True)] = Field(
        "whole",
        description="whole: one program; auto: a block before each convolution; or layers to cut before, by commas",
    )
    head_epochs: Annotated[CountOrNone, Traits(report=True)] = Field(
        2, description="epochs in which the blocks' heads learn on the trained network"
    )
    head_units: Annotated[Literal["held", "scored"], Traits(report=True)] = Field(
        "held", description="a head's own units: held at 1, or scored and their scores dropped"
    )
    by_class: Annotated[bool, Traits(report=True)] = Field(
        False, description="one program for the images of each class, scores averaged over classes"
    )


class RunnerSettings(SettingsGroup):
    """Programs solved at the same time."""

    workers: Annotated[Threads, PLACE] = Field(
        2, description="programs solved at the same time; never more than there are cores"
    )
    task_runner: Annotated[Literal["threads", "processes", "dask"], PLACE] = Field(
        "threads", description="what solves programs at the same time"
    )
    dask_address: Annotated[str, PLACE] = Field(
        "", description="scheduler of a running Dask cluster; empty: one for this flow alone"
    )


class ExplanationSettings(SettingsGroup):
    """Explanations and ranges."""

    explain: bool = Field(False, description="log which images and cuts hold each score up")
    ranges: bool = Field(False, description="log each score's range over the near-optimal set")


class ScorePart(ExplanationSettings, RunnerSettings, BlockSettings, ProgramSettings, SampleSettings, PresetSettings):
    """Everything about scores."""
