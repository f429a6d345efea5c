"""The published table on these data, and beside it the same table with this project's own settings."""

import math
from collections.abc import Mapping, Sequence
from itertools import product

from prefect import flow

from flows.adapters import split_names, thresholds_of
from flows.config import PRESETS, Settings, settings_of, subject_of
from flows.execution import tasks
from flows.pipelines import stage_runs
from flows.tracking import Run

# Those of the rankings in docs/results/ranking.md: it was measured before, and nothing here chooses them.
OWN: Mapping[str, object] = {
    "gate": "linear",
    "layer_weight": "total",
    "loss_weight": 5.0,
    "gap": 1e-3,
    "scoring_sets": 1,
    "selection": "quantile",
    "refit": "false",
}
STEP = 0.05  # of the units that one step of our own settings removes at most
SNIP: Mapping[str, object] = {"images_per_class": 10, "scoring_sets": 1}  # its authors take a batch of 100
CHOICES = {"unit": tasks.choose_units, "connection": tasks.choose_connections}
ROW = "row.json"


@flow(name="reproduce")
def reproduce_flow(settings: Settings) -> str:
    """Every network on every data set with every seed, pruned in both ways at every threshold; the run on top."""
    with stage_runs.flow_run("reproduce", settings, "reproduce: the published table") as parent:
        rows = [row for cell in cells_of(settings) for row in _cell(cell, parent)]
        tasks.tabulate(settings, parent, rows)
    return parent.run_id


def cells_of(settings: Settings) -> list[Settings]:
    """The settings of every cell; those of one data set and seed follow each other, so that images are read once."""
    seeds = range(settings.seed, settings.seed + settings.seeds)
    return [
        settings.model_copy(update={"dataset": dataset, "seed": seed, "model": model})
        for dataset, seed, model in product(split_names(settings.datasets), seeds, split_names(settings.models))
    ]


def published_of(settings: Settings) -> Settings:
    """The settings of the published program, at the threshold that they have: ten images of ten classes."""
    values = settings_of(PRESETS["published"])
    names = [name for name in PRESETS["published"] if name != "threshold"]
    return settings.model_copy(update={name: getattr(values, name) for name in names})


def own_of(settings: Settings, removed: int = 0, units: int = 1) -> Settings:
    """This project's own settings that remove so many of all units, in steps of 5 % of them."""
    share = removed / units
    # A schedule has at least one unit to remove.
    schedule = {"schedule": "iterative", "steps": math.ceil(share / STEP)} if removed else {}
    return settings.model_copy(update={**OWN, "share": share, **schedule})


def _cell(settings: Settings, parent: Run) -> list[Run]:
    title = f"{subject_of(settings)}, seed {settings.seed}"
    with stage_runs.stage_run("cell", settings, parent, title=title) as cell:
        trained = stage_runs.train_stage(settings, cell)
        by_threshold = [settings.model_copy(update={"threshold": each}) for each in thresholds_of(settings)]
        published = _rows("published", [published_of(each) for each in by_threshold], cell, trained)
        found = [row.json(ROW) for row in published]
        counts = [(int(str(each["units_removed"])), int(str(each["units_total"]))) for each in found]
        pairs = zip(by_threshold, counts, strict=True)
        own = _rows("own", [own_of(each, *count) for each, count in pairs], cell, trained)
    return [*published, *own]


def _rows(name: str, variants: Sequence[Settings], cell: Run, trained: Run) -> list[Run]:
    """One row for each variant of the settings, all of which score alike."""
    with stage_runs.stage_run("program", variants[0], cell, {"train": trained}, title=f"{name} settings") as program:
        scored = stage_runs.score_stage(variants[0], program, trained)
        return [_row(name, each, program, trained, scored) for each in variants]


def _row(name: str, settings: Settings, program: Run, trained: Run, scored: Run) -> Run:
    sources = {"train": trained, "score": scored}
    title = f"{name}, threshold {settings.threshold:g}"
    with stage_runs.stage_run("row", settings, program, sources, title=title) as row:
        pruned = stage_runs.prune_stage(settings, row, scored, trained)
        with stage_runs.stage_run("retrain", settings, row, {"prune": pruned}) as retrained:
            tasks.retrain(settings, retrained, pruned)
            tasks.evaluate(settings, retrained, "retrained")
        snip = settings.model_copy(update=dict(SNIP))
        chosen = [_chosen(snip, row, pruned, kind) for kind in CHOICES]
        # One after the other: training seeds torch's global generator, which all threads share.
        sparse = [tasks.train_sparse(snip, row, each, kind) for each, kind in zip(chosen, CHOICES, strict=True)]
        tasks.describe_row(settings, row, name, trained, scored, pruned, retrained, chosen[1], sparse)
    return row


def _chosen(settings: Settings, row: Run, pruned: Run, kind: str) -> Run:
    with stage_runs.stage_run("snip", settings, row, {"prune": pruned}, title=f"SNIP per {kind}") as run:
        CHOICES[kind](settings, run, pruned)
    return run
