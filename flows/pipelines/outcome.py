"""The outcome of a flow in its last lines: accuracies, sizes, seconds, what is proved, and where everything is."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from flows import tracking
from flows.errors import FlowError
from flows.tracking import Run
from flows.tracking.stores import run_page, shown, view_page

STAGES = {
    "train": "trained",
    "score": "scored",
    "prune": "pruned",
    "gradual": "pruned in training",
    "retrain": "retrained",
    "compact": "compacted",
}
# What a person looks for afterwards: the stage that leaves it (none: the run on top), and its file.
FILES = {
    "compacted network": ("compact", "compact.pt"),
    "ONNX": ("compact", "compact.onnx"),
    "report": ("", "report.html"),
}
HEAD = ("", "test accuracy", "units", "parameters", "multiply-adds", "seconds")
WIDTHS = (20, 14, 9, 13, 15, 9)
SQLITE, SERVERS = "sqlite:", ("http:", "https:")
DEFAULT_STORE = '"$MLFLOW_TRACKING_URI"'


@tracking.each_run_asked_once()
def outcome_of(uri: str, run_id: str) -> list[str]:
    """The outcome of a run by its id, as `outcome_lines` says it; where the store is gone by now, one line."""
    try:
        return outcome_lines(tracking.find_run(uri, run_id))
    except FlowError as error:
        return [f"it cannot be read ({error})"]


def outcome_lines(run: Run) -> list[str]:
    """What a finished flow came to, read from its run and those below it; of a flow without such stages where to look.

    Stages that it continued stand in the table as well. Where nothing can be read, one line says why.
    """
    try:
        own = {stage: below[-1] for stage in STAGES if (below := run.below(stage))}
        stages = _with_sources(own)
        lines = [*_table(own, stages), *_proofs(stages)] if own else []
        compared = [f"{'compare runs':<20}{view_page(run.uri, run.experiment_id)}"] if own else []
        return [*lines, *_places(run, own), f"{'look at it':<20}{look_at(run)}", *compared]
    except FlowError as error:
        return [f"it cannot be read ({error})"]


def look_at(run: Run) -> str:
    """The command that opens the UI on the store of a run, and the address of the run there."""
    page = run_page(run.uri, run.experiment_id, run.run_id)
    if run.uri.startswith(SERVERS):
        return page
    # An address with a secret is named by the variable that holds it.
    plain = run.uri.startswith(SQLITE) or shown(run.uri) == run.uri
    return f"mlflow ui --backend-store-uri {shlex.quote(run.uri) if plain else DEFAULT_STORE}, then {page}"


def _with_sources(own: Mapping[str, Run]) -> dict[str, Run]:
    """The stages of a flow and those that they came from, in the order of the way."""
    found, rest = dict(own), list(own.values())
    while rest:
        run = rest.pop()
        for name, source in run.tags().items():
            stage = name.removeprefix("from.")
            if name.startswith("from.") and stage in STAGES and stage not in found:
                found[stage] = tracking.find_run(run.uri, source)
                rest.append(found[stage])
    return {stage: found[stage] for stage in STAGES if stage in found}


def _table(own: Mapping[str, Run], stages: Mapping[str, Run]) -> list[str]:
    pruned = stages.get("prune") or stages.get("gradual")
    removal = pruned.json("removal.json") if pruned else None
    rows: list[tuple[str, ...]] = [HEAD]
    for stage, run in stages.items():
        metrics = run.metrics()
        accuracy = f"{100 * metrics['test_accuracy']:.2f} %" if "test_accuracy" in metrics else ""
        sizes = _sizes(stage, removal) if removal and stage != "score" else ("", "", "")
        seconds = f"{metrics['seconds']:.1f}" if stage in own and "seconds" in metrics else "earlier"
        rows.append((_named(stage, metrics), accuracy, *sizes, seconds))
    return ["".join(_cells(row)).rstrip() for row in rows]


def _named(stage: str, metrics: Mapping[str, float]) -> str:
    if "refit_kept" not in metrics:
        return STAGES[stage]
    return f"{STAGES[stage]}, refitted" if metrics["refit_kept"] else f"{STAGES[stage]}, not refit"


def _sizes(stage: str, removal: Mapping[str, Any]) -> tuple[str, str, str]:
    when = "before" if stage == "train" else "after"
    units = removal["units_total"] - (0 if stage == "train" else removal["units_removed"])
    parameters, multiply_adds = (removal[f"{name}_{when}"] for name in ("parameters", "multiply_adds"))
    return f"{units:,}", f"{parameters:,}", f"{multiply_adds:,}"


def _cells(row: tuple[str, ...]) -> list[str]:
    first, *others = zip(row, WIDTHS, strict=True)
    return [f"{first[0]:<{first[1]}}", *(f"{text:>{width}}" for text, width in others)]


def _proofs(stages: Mapping[str, Run]) -> list[str]:
    lines = []
    if score := stages.get("score"):
        metrics, status = score.metrics(), score.tags().get("certificate.status", "")
        if status and "largest_gap" in metrics:
            programs = "one program" if metrics["programs"] == 1 else f"{metrics['programs']:.0f} programs"
            words = f"scores {status} in {programs}, largest gap {metrics['largest_gap']:.1e}"
            lines.append(f"{'proved':<20}{words}; accuracies are measured, not proved")
    if (prune := stages.get("prune")) and (status := prune.tags().get("mask.status", "")):
        lines.append(f"{'proved':<20}mask {status}, gap {prune.metrics()['mask.gap']:.1e}, of the network linearised")
    return lines


def _places(run: Run, own: Mapping[str, Run]) -> list[str]:
    found = {"": run, **own}
    lines = []
    for what, (stage, file) in FILES.items():
        if stage in found and file in found[stage].files():
            lines.append(f"{what:<20}{_place(found[stage])}/{file}")
    return lines


def _place(run: Run) -> str:
    """The folder of a run's files, where it is on this machine, else its address as it may be shown."""
    uri = str(run.logged().info.artifact_uri)
    parts = urlsplit(uri)
    return unquote(parts.path) if parts.scheme == "file" else shown(uri)
