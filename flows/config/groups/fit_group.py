"""Settings of the training."""

from typing import Annotated, Literal

from pydantic import Field

from flows.config.groups.setting_kinds import Count, CountOrNone, NotNegative, Positive, SettingsGroup, Traits


class FittingSettings(SettingsGroup):
    """Training."""

    epochs: Annotated[CountOrNone, Traits(report=True)] = Field(
        20, description="epochs of training; 0 keeps the checkpoint's weights"
    )
    learning_rate: Positive = Field(0.001, description="step size of the optimiser")
    batch_size: Count = Field(64, description="images per step, and per step of evaluation")
    optimiser: Literal["adam", "sgd"] = Field("adam", description="optimiser of every training")
    weight_decay: NotNegative = Field(0.0, description="weight decay of the optimiser")
    rate_schedule: Literal["constant", "cosine"] = Field(
        "constant", description="learning rate over the epochs: constant, or falling to 0 along a cosine"
    )
    augment: Literal["none", "flip_crop"] = Field(
        "none", description="what happens to training images: none, or flip_crop (mirrored, shifted by up to 4 pixels)"
    )
    precision: Literal["auto", "float32", "mixed"] = Field(
        "auto", description="arithmetic of training: float32, mixed (bfloat16 where that is safe), auto: mixed on cuda"
    )
    fit_by: Annotated[Literal["network", "block"], Traits(report=True)] = Field(
        "network", description="what learns from one loss: the whole network, or each block from a head of its own"
    )


class FitPart(FittingSettings):
    """Everything about training."""
