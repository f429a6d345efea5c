"""The mask program by the settings: as many units of each layer as share leaves, chosen with a certificate."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from torch import nn

import formulation
import training
from flows.adapters.library_settings import limits_of
from flows.cache import StageResult
from flows.config import Settings
from formulation import MaskBudget, MaskSettings, MaskSolution
from training import RefittedChoice, ScoringSet, Selection

FOLDER = "mask_program"
SMALLEST = 1e-3  # an objective that gaps are relative to


def mask_settings_of(settings: Settings) -> MaskSettings:
    """How to choose masks; raises FormulationError."""
    return MaskSettings(
        temperature=settings.temperature,
        refit_weight=settings.refit_weight,
        time_limit=settings.time_limit,
        solver=settings.solver,
        solver_options=json.loads(settings.solver_options),
        threads=settings.threads,
    )


def choose_within_share(
    settings: Settings, network: nn.Module, images: ScoringSet, widths: dict[str, int]
) -> tuple[Selection, MaskSolution]:
    """The units that the mask program keeps of each layer, as many as `selection=share` would.

    `widths` are those of the layers with scores. Raises FormulationError and PruningError.
    """
    equal = {layer: np.ones(units) for layer, units in widths.items()}
    selection = training.by_share(equal, settings.share, limits_of(settings))
    counts = {layer: int(mask.sum()) for layer, mask in selection.masks.items()}
    solution = formulation.choose_mask(
        network, images.images, images.labels, MaskBudget(counts=counts), mask_settings_of(settings)
    )
    return replace(selection, masks=solution.masks), solution


def log_choice(
    settings: Settings,
    result: StageResult,
    network: nn.Module,
    images: ScoringSet,
    solution: MaskSolution,
    choice: RefittedChoice,
) -> None:
    """Log which masks were best after refit, and what the mask program proves of them.

    The bound is of every mask of these counts; the objective of the chosen ones is worked out anew. Raises
    FormulationError.
    """
    objective = formulation.objective_of(
        network, images.images, images.labels, choice.masks, mask_settings_of(settings)
    )
    gap = (objective - solution.certificate.bound) / max(abs(objective), SMALLEST)
    result.add_metrics({"mask.chosen_objective": objective, "mask.chosen_gap": gap})
    result.add_metrics({"mask.chosen_validation_accuracy": choice.value})
    result.add_tags({"mask.origin": choice.origin})
    result.add_json(choice.judged, "mask_choice.json")


def log_mask_program(result: StageResult, solution: MaskSolution) -> None:
    """Log what a mask program proves: objective, bound and gap, and its certificate with the duals behind it."""
    claimed = solution.certificate
    result.add_metrics({"mask.objective": claimed.objective, "mask.bound": claimed.bound, "mask.gap": claimed.gap})
    result.add_tags({"mask.status": claimed.status})
    with TemporaryDirectory() as folder:
        solution.save(folder)
        result.add_files(Path(folder), FOLDER)
