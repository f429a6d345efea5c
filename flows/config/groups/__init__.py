"""Settings by group: a field says type, default, bounds, choices, line of help and traits of a setting, once.

A part is the groups that one kind of stage is about; nothing here knows the command line.
"""

from flows.config.groups.data_group import DataPart, DataSettings, NetworkSettings, numbers_of
from flows.config.groups.experiment_group import (
    RANGES,
    ExperimentPart,
    ReproductionSettings,
    SweepSettings,
    TransferSettings,
)
from flows.config.groups.fit_group import FitPart, FittingSettings
from flows.config.groups.prune_group import (
    CompactionSettings,
    ComparisonSettings,
    PrunePart,
    RemovalSettings,
    RetrainingSettings,
    SelectionSettings,
)
from flows.config.groups.run_group import MachineSettings, RegistrySettings, RunPart, StoreSettings
from flows.config.groups.score_group import (
    BlockSettings,
    ExplanationSettings,
    PresetSettings,
    ProgramSettings,
    RunnerSettings,
    SampleSettings,
    ScorePart,
)
from flows.config.groups.setting_kinds import CONTROLS, NEVER, SettingsGroup, Traits, declared_traits

__all__ = [
    "CONTROLS",
    "NEVER",
    "RANGES",
    "BlockSettings",
    "CompactionSettings",
    "ComparisonSettings",
    "DataPart",
    "DataSettings",
    "ExperimentPart",
    "ExplanationSettings",
    "FitPart",
    "FittingSettings",
    "MachineSettings",
    "NetworkSettings",
    "PresetSettings",
    "ProgramSettings",
    "PrunePart",
    "RegistrySettings",
    "RemovalSettings",
    "ReproductionSettings",
    "RetrainingSettings",
    "RunPart",
    "RunnerSettings",
    "SampleSettings",
    "ScorePart",
    "SelectionSettings",
    "SettingsGroup",
    "StoreSettings",
    "SweepSettings",
    "Traits",
    "TransferSettings",
    "declared_traits",
    "numbers_of",
]
