"""The settings of a run: names, types, defaults and bounds, which entry point takes which, and their words on a
command line.

Nothing here knows MLflow, Prefect or torch.
"""

from flows.config.command_line import (
    chosen,
    data_name,
    inherit,
    model_name,
    require_words,
    settings_of,
    settings_of_run,
    subject_of,
    words_of,
)
from flows.config.completion import completion_of
from flows.config.contradictions import require_agreeing_words, require_agreement
from flows.config.descriptions import description_of, help_of, overview
from flows.config.entry_points import (
    BLOCKS,
    DATA,
    ENTRY_POINTS,
    FIT,
    GRADUAL,
    LEARNING,
    NETWORK,
    PRUNE,
    REFIT,
    SAMPLE,
    SELECT,
    SERVE,
    SOLVE,
    EntryPoint,
    entry_point,
)
from flows.config.groups import (
    CONTROLS,
    NEVER,
    DataPart,
    ExperimentPart,
    FitPart,
    PrunePart,
    RunPart,
    ScorePart,
    SettingsGroup,
    numbers_of,
)
from flows.config.presets import with_preset
from flows.config.settings import COLUMNS, FREE, PLACES, PRESETS, REPORTED, TRAITS, Settings
from flows.config.sweep_grid import point_title, points_of, value_of

__all__ = [
    "BLOCKS",
    "COLUMNS",
    "CONTROLS",
    "DATA",
    "ENTRY_POINTS",
    "FIT",
    "FREE",
    "GRADUAL",
    "LEARNING",
    "NETWORK",
    "NEVER",
    "PLACES",
    "PRESETS",
    "PRUNE",
    "REFIT",
    "REPORTED",
    "SAMPLE",
    "SELECT",
    "SERVE",
    "SOLVE",
    "TRAITS",
    "DataPart",
    "EntryPoint",
    "ExperimentPart",
    "FitPart",
    "PrunePart",
    "RunPart",
    "ScorePart",
    "Settings",
    "SettingsGroup",
    "chosen",
    "completion_of",
    "data_name",
    "description_of",
    "entry_point",
    "help_of",
    "inherit",
    "model_name",
    "numbers_of",
    "overview",
    "point_title",
    "points_of",
    "require_agreeing_words",
    "require_agreement",
    "require_words",
    "settings_of",
    "settings_of_run",
    "subject_of",
    "value_of",
    "with_preset",
    "words_of",
]
