"""The verb `score`: a network and a loader in, scores with their certificate out."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from torch import nn

import formulation
from critical_neurons.loaders import read_scoring_set
from critical_neurons.score_result import ScoreResult
from formulation import InvalidSetting, ScoreSettings
from naming import USUAL_IMAGES, did_you_mean

DEFAULTS = ScoreSettings()
# The paper's program, as `preset=published` of the flows has it: docs/results/published-table.md.
PUBLISHED = ScoreSettings(gate="published", radius=1e-5, loss_weight=5.0, layer_weight="kernel")


def score(
    network: nn.Module,
    data: Any,
    *,
    images: int = USUAL_IMAGES,
    settings: ScoreSettings = DEFAULTS,
    device: str = "cpu",
    **changes: Any,
) -> ScoreResult:
    """Score every unit of a trained network: 1 is critical, 0 removable.

    Args:
        network: returns logits; left as it was. It is scored on the CPU, in evaluation mode.
        data: a DataLoader, a data set, an iterable of (images, labels), or the pair: images as the network takes them.
        images: how many are scored on, as evenly over the classes as may be; the first ones of the data that the
            network classifies correctly.
        settings: of the program.
        device: where the network classifies images, to find those that it is right about.
        changes: settings by name, as in `loss_weight=1.0`.

    Returns:
        Scores, importance, explanation and certificate; `print` shows a table of the layers.

    Raises:
        TrainingError: data that cannot be read or do not fit.
        FormulationError: a network, images or settings that the program cannot hold, before any work; or no scores.
    """
    asked = changed(settings, changes)
    samples = read_scoring_set(network, data, images, device=device)
    still = copy.deepcopy(network).cpu().eval()
    solution = formulation.score(still, samples.images, samples.labels, asked)
    return ScoreResult(solution, samples.images, samples.labels, still)


def changed(settings: ScoreSettings, changes: dict[str, Any]) -> ScoreSettings:
    """Settings with some of them given another value; raises InvalidSetting for a name that is none."""
    known = ScoreSettings.__dataclass_fields__
    if unknown := sorted(set(changes) - set(known)):
        hint = did_you_mean(unknown[0], known)
        raise InvalidSetting(f"{unknown[0]} is no setting of a score call{f' ({hint})' if hint else ''}")
    return replace(settings, **changes)
