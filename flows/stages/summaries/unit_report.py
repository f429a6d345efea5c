"""The units of each layer that the network needs most and least, with what holds their scores up."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import formulation
from flows.adapters import STAGE, ProgramSpec, artifacts, program_of_run
from flows.cache import EarlierResult
from flows.config import Settings
from flows.reporting import Section, Table
from flows.stages.scoring import instance_of
from formulation import Pull, Solution
from training import Masks

MOST, STRONGEST = 3, 3  # units of each kind that a layer's table has; pulls that are named of each unit
PATIENCE = 10.0  # seconds that the explanation of all programs of a scoring set may take
COLUMNS = ("layer", "unit", "score", "importance", "reduced cost", "kept", "held up by (pull)")
MEANING = (
    "Importance ranks the units: by score, and among equal scores by reduced cost, what the objective gains or loses "
    "per unit of score. A pull is the part of it that an image of scoring set 1, or a cut at an activation, asks for."
)
NONE, UNKNOWN = "score 0 in scoring set 1, where nothing outweighs what the unit costs", "not looked into"
Why = Mapping[tuple[str, int], Sequence[str]]


def unit_sections(
    settings: Settings, stages: Mapping[str, EarlierResult], masks: Masks, classes: Sequence[str]
) -> tuple[Section, Section]:
    """The most and the least critical units of each layer; `masks` are those of the prune stage, by layer."""
    rows = stages["score"].rows("scores.json")
    layers = list(dict.fromkeys(str(row["layer"]) for row in rows))
    ranked = {
        layer: sorted((row for row in rows if row["layer"] == layer), key=lambda row: -float(row["importance"]))
        for layer in layers
    }
    why, missing = held_up_by(settings, stages, classes)
    most = [row for layer in layers for row in ranked[layer][:MOST]]
    least = [row for layer in layers for row in ranked[layer][: MOST - 1 : -1][:MOST]]
    words = [MEANING, *([missing] if missing else [])]
    return (
        Section("Most critical units", [*words, Table(COLUMNS, [_cells(row, masks, why) for row in most])]),
        Section("Least critical units", [Table(COLUMNS, [_cells(row, masks, why) for row in least])]),
    )


def held_up_by(
    settings: Settings, stages: Mapping[str, EarlierResult], classes: Sequence[str]
) -> tuple[Why | None, str]:
    """What holds up each unit's score in the programs of scoring set 1, in words; or why that is not known.

    An explanation takes as long as a round of its program did: where that is long, none is made.
    """
    runs = [(program_of_run(run) or ProgramSpec(0), run) for run in stages["score"].below(STAGE)]
    chosen = [(which, artifacts.logged_solution(run)) for which, run in runs if which.number == 1]
    if any(which.block for which, _ in chosen):
        return None, "What holds scores up is in the explanations of the blocks' programs: give explain=true."
    seconds = sum(_seconds(solution) for _, solution in chosen)
    if seconds > PATIENCE:
        return None, f"What holds scores up would take about {seconds:.0f} s to find: give explain=true."
    if any(solution.dual_bound is None for _, solution in chosen):
        return None, "What holds scores up is not known: no linear program was finished within the time limit."
    found: dict[tuple[str, int], list[str]] = defaultdict(list)
    for which, solution in chosen:
        instance = instance_of(settings, stages["score"], stages["train"], None, which)
        given = (instance.network, instance.images, instance.labels, solution)
        for pull in formulation.explain(*given, most=STRONGEST):
            found[pull.layer, pull.unit].append(_words(pull, classes))
    return found, ""


def _seconds(solution: Solution) -> float:
    certificate = solution.certificate
    return float(certificate.seconds) / max(1, certificate.rounds)


def _words(pull: Pull, classes: Sequence[str]) -> str:
    what = f"image {pull.image} of {classes[pull.label]}" if pull.kind == "image" else f"cut at {pull.node}"
    return f"{what} ({pull.pull:.3g})"


def _cells(row: Mapping[str, Any], masks: Masks, why: Why | None) -> tuple[object, ...]:
    layer, unit = str(row["layer"]), int(row["number"])
    kept = bool(masks[layer][unit]) if layer in masks else None
    reasons = UNKNOWN if why is None else ", ".join(why.get((layer, unit), [])[:STRONGEST]) or NONE
    return (layer, unit, float(row["score"]), float(row["importance"]), row.get("reduced_cost"), kept, reasons)
