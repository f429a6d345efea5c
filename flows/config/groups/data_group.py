"""Settings of the data and of the network."""

import math
from typing import Annotated

from pydantic import Field, field_validator

from flows.config.groups.setting_kinds import IDENTITY, NEVER, PLACE, CountOrNone, NotEmpty, SettingsGroup, Traits


class DataSettings(SettingsGroup):
    """Data."""

    dataset: Annotated[NotEmpty, Traits(title=NEVER, report=True, identity=True)] = Field(
        "digits",
        description="digits, mnist, fashion_mnist, kmnist, cifar10, cifar100, or folder:<path>: a folder per class",
    )
    data_root: Annotated[str, PLACE] = Field(
        "", description="folder of the data sets; empty: $DATA_ROOT, else a folder in ~/.cache"
    )
    image_size: Annotated[CountOrNone, IDENTITY] = Field(
        0, description="height and width in pixels to resize to; 0: the data's own (digits: enlarged from 8x8 to 28x28)"
    )
    channels: Annotated[int, IDENTITY] = Field(0, description="1: grey, 3: colour, 0: the data's own")
    limit: Annotated[CountOrNone, IDENTITY] = Field(
        0, description="train on this many images only, for quick trials; 0: on all"
    )

    @field_validator("channels")
    @classmethod
    def _grey_or_colour(cls, value: int) -> int:
        if value not in (0, 1, 3):
            raise ValueError("must be 0, 1 or 3")
        return value


class NetworkSettings(SettingsGroup):
    """Network."""

    model: Annotated[NotEmpty, Traits(title=NEVER, report=True, identity=True)] = Field(
        "lenet5",
        description=(
            "fc2, fc3, fc4, lenet5, vgg7, vgg16, vgg16_plain, vgg19, resnet20, resnet56, vit_tiny (`vgg16@0.25`: a "
            "quarter as wide), torchvision:name, package.module:factory, file.py:factory, or an MLflow model URI"
        ),
    )
    checkpoint: Annotated[str, IDENTITY] = Field(
        "", description="state dict (.pt, .safetensors) to start from; empty: seeded initial weights"
    )
    mean: Annotated[str, Traits(identity=True, later=True)] = Field(
        "", description="by which the network's images are normalised, by channel and commas, as 0.485,0.456,0.406"
    )
    std: Annotated[str, Traits(identity=True, later=True)] = Field(
        "", description="by which they are divided then; the network becomes one that takes pixels in [0, 1]"
    )
    new_head: bool = Field(
        False, description="where outputs and classes differ in number, draw a new output layer from the seed"
    )

    @field_validator("mean", "std")
    @classmethod
    def _numbers(cls, value: str) -> str:
        try:
            finite = all(map(math.isfinite, numbers_of(value)))
        except ValueError as error:
            raise ValueError("must be numbers by commas, as 0.485,0.456,0.406") from error
        if not finite:
            raise ValueError("must be finite numbers, as 0.485,0.456,0.406")
        return value


def numbers_of(text: str) -> tuple[float, ...]:
    """The numbers of a text, by commas; none of an empty one."""
    return tuple(float(each) for each in text.split(",")) if text.strip() else ()


class DataPart(NetworkSettings, DataSettings):
    """Which network learns from which data."""
