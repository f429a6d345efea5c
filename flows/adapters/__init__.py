"""Adapters between the settings and the two libraries: their objects, the programs to solve, the selection of units,
and the artifacts that stages leave for each other.

Stages stand on this room.
"""

from flows.adapters.aggregation import (
    STAGE,
    AggregatedScores,
    aggregate_programs,
    aggregate_sets,
    program_of_run,
    tags_of,
)
from flows.adapters.artifacts import EARLY, WEIGHTS
from flows.adapters.core_locks import cores, free_core, require_locks
from flows.adapters.library_settings import (
    data_folder,
    dataset_of,
    device_of,
    exports_of,
    fit_settings_of,
    limits_of,
    network_of,
    refit_images_of,
    rules_of,
    score_settings_of,
    scoring_sets_of,
    split_names,
    swap_tries_of,
    thresholds_of,
)
from flows.adapters.mask_programs import choose_within_share, log_mask_program
from flows.adapters.model_metadata import as_text, metadata_of
from flows.adapters.programs import (
    ALL_CLASSES,
    ProgramInputs,
    ProgramSpec,
    block_instance,
    blocks_of,
    by_block,
    programs_of,
    scoring_in_words,
    whole_instance,
    without_heads,
)
from flows.adapters.solving import solution_fault, solved
from flows.adapters.trust import require_named, vouched
from flows.adapters.unit_selection import (
    StepPlan,
    account_of,
    choice_in_words,
    free_layers,
    needs_importance,
    plan_of,
    require_budget,
    scores_compare,
    select,
)

__all__ = [
    "ALL_CLASSES",
    "EARLY",
    "STAGE",
    "WEIGHTS",
    "AggregatedScores",
    "ProgramInputs",
    "ProgramSpec",
    "StepPlan",
    "account_of",
    "aggregate_programs",
    "aggregate_sets",
    "as_text",
    "block_instance",
    "blocks_of",
    "by_block",
    "choice_in_words",
    "choose_within_share",
    "cores",
    "data_folder",
    "dataset_of",
    "device_of",
    "exports_of",
    "fit_settings_of",
    "free_core",
    "free_layers",
    "limits_of",
    "log_mask_program",
    "metadata_of",
    "needs_importance",
    "network_of",
    "plan_of",
    "program_of_run",
    "programs_of",
    "refit_images_of",
    "require_budget",
    "require_locks",
    "require_named",
    "rules_of",
    "score_settings_of",
    "scores_compare",
    "scoring_in_words",
    "scoring_sets_of",
    "select",
    "solution_fault",
    "solved",
    "split_names",
    "swap_tries_of",
    "tags_of",
    "thresholds_of",
    "vouched",
    "whole_instance",
    "without_heads",
]
