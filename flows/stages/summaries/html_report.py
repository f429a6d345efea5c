"""The report of a main run: everything that the run came to on one page, for who has the page alone."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from flows.adapters import STAGE, ProgramSpec, artifacts, choice_in_words, program_of_run, scoring_in_words
from flows.cache import EarlierResult, StageResult
from flows.config import ENTRY_POINTS, PRESETS, REPORTED, Settings, chosen, settings_of, subject_of
from flows.reporting import Command, Picture, Section, Table, figure_png, figures, page, pixels_png
from flows.stages.pruning import REFIT, compaction_in_words, mask_picture_of, refit_in_words
from flows.stages.summaries.unit_report import unit_sections
from formulation import Outline
from training import Masks, Scores

REPORT = "report.html"
CERTIFICATE = (
    *("status", "checked", "objective", "bound", "proved_bound", "gap", "rounds", "seconds", "images"),
    *("solver", "solver_version"),
)


def log_report(
    settings: Settings,
    result: StageResult,
    parent: EarlierResult,
    stages: Mapping[str, EarlierResult],
    accuracies: Mapping[str, float],
    network: nn.Module,
    scores: Scores,
    masks: Masks,
    outline: Outline,
    classes: Sequence[str],
) -> None:
    """Log the page of a main run; `network` is the trained one, `accuracies` those on test images.

    `outline` says which layers have no scores, each with the reason, and which share their units; `classes` are the
    names of the data set's.
    """
    sections = (
        _accuracies(accuracies),
        _kept(stages["prune"].json("removal.json"), masks),
        _refitted(stages["prune"]),
        _compacted(stages),
        Section("Scores", [_histogram(settings, scores)]),
        *unit_sections(settings, stages, masks, classes),
        _tied(outline.tied),
        _unscored(outline.unscored),
        Section("Masks (blue: kept, orange: removed)", _masks(network, masks)),
        _certificates(stages["score"]),
        _settings(settings),
        _files(settings, stages),
        _runs(parent, stages),
        Section("Again", ["The same run, with the defaults of this version:", Command(command_of(settings))]),
    )
    scoring = scoring_in_words(settings)
    lead = f"{scoring[0].upper()}{scoring[1:]}; {choice_in_words(settings)}."
    result.add_text(page(subject_of(settings), lead, sections), REPORT)


def command_of(settings: Settings) -> str:
    """The command line of a main run: every setting that is not its default; places and machine left out."""
    given = chosen(ENTRY_POINTS["main"], settings).items()
    words = ["python", "-m", "flows", "main", *(word for name, value in given for word in (f"--{name}", str(value)))]
    return shlex.join(words)


def _accuracies(accuracies: Mapping[str, float]) -> Section:
    rows = [(name, f"{100 * value:.2f} %") for name, value in accuracies.items()]
    picture = Picture("Test accuracy of each network", figure_png(figures.accuracy_figure(dict(accuracies))))
    return Section("Accuracy on the test images", [Table(("network", "test accuracy"), rows), picture])


def _kept(removal: Mapping[str, Any], masks: Masks) -> Section:
    widths = [(layer, len(mask), int(mask.sum()), int((~mask).sum())) for layer, mask in masks.items()]
    pairs = [(removal[f"{name}_before"], removal[f"{name}_after"]) for name in ("parameters", "multiply_adds")]
    shares = [f"{100 * (1 - after / before):.1f} %" for before, after in pairs]
    accounts = [
        ("published: incoming weights of removed units", f"{100 * removal['published_parameters_removed']:.1f} %"),
        ("true: parameters of the smaller network", f"{shares[0]} ({pairs[0][0]} before, {pairs[0][1]} after)"),
        ("true: multiply-adds of the smaller network", f"{shares[1]} ({pairs[1][0]} before, {pairs[1][1]} after)"),
    ]
    return Section(
        "What was removed",
        [Table(("layer", "units before", "units kept", "removed"), widths), Table(("account", "removed"), accounts)],
    )


def _refitted(prune: EarlierResult) -> Section:
    words = refit_in_words(prune.metrics())
    if not words:
        return Section("Refit", [])
    names = ("layer", "error_before", "error_after", "ridge", "columns", "readings", "left_because")
    rows = prune.rows(REFIT)
    last = [[row[name] for name in names] for row in rows if row["step"] == rows[-1]["step"]]
    shown = ("layer", "error before", "error after", "ridge", "inputs", "readings", "left as it was because")
    return Section("Refit", [words, "Errors are parts of the variance of what each layer emits.", Table(shown, last)])


def _tied(tied: Mapping[str, tuple[str, ...]]) -> Section:
    rows = [(layer, ", ".join(others)) for layer, others in tied.items()]
    table = [Table(("scored and removed as", "together with"), rows)] if rows else []
    return Section("Layers that sums and depthwise convolutions tie together", table)


def _unscored(unscored: Mapping[str, str]) -> Section:
    table = [Table(("layer", "why no score acts on it"), list(unscored.items()))] if unscored else []
    return Section("Layers that are left alone", table)


def _compacted(stages: Mapping[str, EarlierResult]) -> Section:
    if "compact" not in stages:
        return Section("Compacted", ["It was not compacted; the run of that stage says why."])
    costs = stages["compact"].json("costs.json")
    dense: Any = costs["dense"]
    after: Any = costs["compacted"]
    rows = [(name, dense[name], after[name]) for name in ("parameters", "multiply_adds", "file_bytes")]
    for before, now in zip(dense["latencies"], after["latencies"], strict=True):
        rows.append((f"median seconds for a batch of {before['batch']}", before["median"], now["median"]))
    words = compaction_in_words(stages["compact"].metrics())
    return Section("Compacted", [words, Table(("cost", "whole network", "compacted"), rows)])


def _histogram(settings: Settings, scores: Scores) -> Picture:
    line = settings.threshold if settings.selection == "threshold" else None
    words = "Scores of each layer's units" + ("; the line is the threshold" if line is not None else "")
    return Picture(words, figure_png(figures.score_histogram(scores, line)))


def _masks(network: nn.Module, masks: Masks) -> list[Picture]:
    return [
        Picture(
            f"{layer}: {int(mask.sum())} of {len(mask)} units kept", pixels_png(mask_picture_of(network, layer, mask))
        )
        for layer, mask in masks.items()
    ]


def _certificates(score: EarlierResult) -> Section:
    runs = score.below(STAGE)
    found = [(program_of_run(run) or ProgramSpec(0), artifacts.logged_solution(run).certificate) for run in runs]
    found.sort(key=lambda pair: (pair[0].place, pair[0].number, pair[0].label))
    rows = [(str(which), *(getattr(certificate, name) for name in CERTIFICATE)) for which, certificate in found]
    notes = list(dict.fromkeys(note for _, certificate in found for note in certificate.notes))
    return Section(
        "Certificates", [Table(("program", *(name.replace("_", " ") for name in CERTIFICATE)), rows), *notes]
    )


def _settings(settings: Settings) -> Section:
    """Those that matter to every run, and whatever else was chosen, by a preset too."""
    point = ENTRY_POINTS["main"]
    shown = {*REPORTED, *chosen(point, settings), *PRESETS[settings.preset]}
    names = [name for name in point.own if name in shown]
    usual = settings_of(point.defaults)
    rows = [(name, getattr(settings, name), getattr(usual, name)) for name in names]
    return Section("Settings", [Table(("setting", "value", "default"), rows)])


def _files(settings: Settings, stages: Mapping[str, EarlierResult]) -> Section:
    """Where the networks are, by the addresses that MLflow knows them by."""
    rows = [("training began with", settings.checkpoint or f"the first weights of seed {settings.seed}")]
    rows += [
        (words, f"runs:/{stages[stage].run_id}/{file}")
        for words, stage, file in (
            ("trained weights", "train", artifacts.WEIGHTS),
            ("pruned weights", "prune", artifacts.WEIGHTS),
            ("pruned and retrained weights", "retrain", artifacts.WEIGHTS),
            ("compacted network", "compact", artifacts.COMPACT),
        )
        if stage in stages
    ]
    how = "A copy: mlflow artifacts download --artifact-uri <address>. The model of this run is the compacted network."
    return Section("Networks", [Table(("network", "address"), rows), how])


def _runs(parent: EarlierResult, stages: Mapping[str, EarlierResult]) -> Section:
    rows = [
        (name, run.run_id, f"#/experiments/{run.experiment_id}/runs/{run.run_id}")
        for name, run in {"this run": parent, **stages}.items()
    ]
    return Section("Runs", [Table(("stage", "run", "where in MLflow"), rows)])
