"""The verb `score`: a network and a loader in, scores with their certificate out."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from typing import Any

from torch import nn

import formulation
from critical_neurons.loaders import DoubtfulScores, Samples, UnremovableUnits, read_samples, read_scoring_set, too_few
from critical_neurons.progress import Progress, silent
from critical_neurons.score_result import ScoreResult
from formulation import Certificate, InvalidModel, InvalidSetting, Round, ScoreSettings
from naming import USUAL_IMAGES, did_you_mean
from tracing import Untraceable, require_plain

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
    progress: Progress = silent,
    **changes: Any,
) -> ScoreResult:
    """Score every unit of a trained network: 1 is critical, 0 removable.

    Args:
        network: returns logits; left as it was. It is scored on the CPU, in evaluation mode.
        data: a DataLoader, a data set, an iterable of (images, labels), or the pair: images as the network takes them.
            With `loss="squared"` the labels are targets, real numbers.
        images: how many are scored on, as evenly over the classes as may be; the first ones of the data that the
            network classifies correctly. With `loss="squared"` the first ones of the data.
        settings: of the program.
        device: where the network classifies images, to find those that it is right about.
        progress: told what happens, line by line: `progress=print`.
        changes: settings by name, as in `loss_weight=1.0`.

    Returns:
        Scores, importance, explanation and certificate; `print` shows a table of the layers. What makes the scores
        doubtful (images that are few, of some classes only, or such that the network is mostly wrong about; a program
        that was not solved to its gap) is a warning, and among the notes; so it is where no unit can be removed.

    Raises:
        TrainingError: data that cannot be read or do not fit.
        FormulationError: a network, images or settings that the program cannot hold, before any work; or no scores.
    """
    asked = changed(settings, changes)
    require_network(network)
    samples, notes = _drawn(network, data, images, asked, device)
    for note in notes:
        warnings.warn(note, DoubtfulScores, stacklevel=2)
    progress(f"score    {len(samples)} images")
    still = copy.deepcopy(network).cpu().eval()
    solution = formulation.score(still, samples.images, samples.labels, asked, progress=_rounds(progress))
    if unproved := _unproved(solution.certificate):
        warnings.warn(unproved, DoubtfulScores, stacklevel=2)
    result = ScoreResult(solution, samples.images, samples.labels, still, tuple(filter(None, (*notes, unproved))))
    if len(refused := result.unremovable) == len(result.scores):
        warnings.warn(
            f"none of these units can be removed: {next(iter(refused.values()))}", UnremovableUnits, stacklevel=2
        )
    return result


def _unproved(claimed: Certificate) -> str:
    """A note where the program was not solved to the gap that was asked for."""
    if claimed.status == "optimal":
        return ""
    asked = claimed.settings["gap"]
    return (
        f"the program ended by {claimed.status} at a gap of {claimed.gap:.2g}, asked for were {asked:g}: scores may be "
        "far from the best; raise time_limit or max_rounds, or score on fewer images"
    )


def _drawn(
    network: nn.Module, data: Any, images: int, asked: ScoreSettings, device: str
) -> tuple[Samples, tuple[str, ...]]:
    """The scoring set, and what makes it doubtful."""
    if asked.loss == "squared":
        samples = read_samples(data, images, quantities=True)
        return samples, too_few(len(samples), images)
    drawn = read_scoring_set(network, data, images, device=device)
    return drawn.samples, drawn.notes()


def _rounds(progress: Progress) -> Callable[[Round], None]:
    def told(made: Round) -> None:
        progress(f"score    round {made.index}: objective {made.objective:.4g}, bound {made.bound:.4g}")

    return told


def require_network(network: nn.Module) -> None:
    """Raise InvalidModel for anything but a plain module, before it is called or copied."""
    try:
        require_plain(network)
    except Untraceable as error:
        raise InvalidModel(str(error)) from error


def changed(settings: ScoreSettings, changes: dict[str, Any], verb: Callable[..., Any] = score) -> ScoreSettings:
    """Settings with some of them given another value; raises InvalidSetting for a name that the verb does not take."""
    known = ScoreSettings.__dataclass_fields__
    if unknown := sorted(set(changes) - set(known)):
        own = [name for name, given in signature(verb).parameters.items() if given.kind is not given.VAR_KEYWORD]
        hint = did_you_mean(unknown[0], [*known, *own])
        raise InvalidSetting(f"{verb.__name__} takes no {unknown[0]}{f' ({hint})' if hint else ''}")
    return replace(settings, **changes)
