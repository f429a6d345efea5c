"""Settings of the experiments: transfer, reproduction and sweep."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from flows.config.groups.data_group import DataPart
from flows.config.groups.fit_group import FitPart
from flows.config.groups.prune_group import PrunePart
from flows.config.groups.score_group import ScorePart
from flows.config.groups.setting_kinds import Count, CountOrNone, SettingsGroup, declared_traits, require_each_once

# The settings that a sweep may be over, each with the values that it takes where none are given.
RANGES: Mapping[str, str] = {
    name: declared_traits(field).sweep
    for part in (DataPart, FitPart, ScorePart, PrunePart)
    for name, field in part.model_fields.items()
    if declared_traits(field).sweep
}
if TYPE_CHECKING:
    Swept = str
else:
    Swept = Literal[tuple(RANGES)]


class TransferSettings(SettingsGroup):
    """Transfer to other data."""

    target: str = Field("fashion_mnist", description="transfer: the data set that the sub-network is trained on")
    rewind_epochs: CountOrNone = Field(1, description="transfer: epochs to the early checkpoint rewound to; 0: none")
    mask_run: str = Field("", description="transfer: run whose mask is carried over; empty: one is found on dataset")
    seeds: Count = Field(3, description="how often all is repeated, with seed, seed + 1, ...")


class ReproductionSettings(SettingsGroup):
    """Reproduction of the published table."""

    models: str = Field("fc3,fc4,lenet5", description="reproduce: networks, by commas")
    datasets: str = Field("mnist,fashion_mnist", description="reproduce: data sets, by commas")
    thresholds: str = Field("0.1,0.2", description="reproduce: thresholds, by commas")

    @field_validator("models", "datasets")
    @classmethod
    def _each_once(cls, value: str) -> str:
        require_each_once([name.strip() for name in value.split(",")])
        return value

    @field_validator("thresholds")
    @classmethod
    def _shares(cls, value: str) -> str:
        words = [word.strip() for word in value.split(",")]
        for word in words:
            try:
                number = float(word)
            except ValueError as error:
                raise ValueError(f"{word!r} is not a number: write such as 0.1,0.2") from error
            if not 0.0 <= number <= 1.0:
                near = "" if math.isnan(number) else f"; the nearest is {int(number > 1.0)}"
                raise ValueError(f"{word} is out of range: thresholds lie in [0, 1]{near}")
        require_each_once([f"{float(word):g}" for word in words])
        return value


class SweepSettings(SettingsGroup):
    """Sweep over one setting."""

    over: Swept = Field("threshold", description="sweep: the setting that varies")
    values: str = Field("", description="sweep: its values, by commas; empty: a range that fits the setting")


class ExperimentPart(SweepSettings, ReproductionSettings, TransferSettings):
    """Everything about experiments."""
