"""Comparison of a score run with itself: what its params, metrics, tags, tables and digests say of its solutions."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch

from flows.adapters import AggregatedScores
from flows.cache import StoredResult, content_of, table_of
from flows.config import BLOCKS, NETWORK, SAMPLE, SOLVE, Settings, settings_of
from flows.errors import CheckRefused, SettingsError
from flows.stages.scoring.score import (
    CERTIFICATES,
    SCORES,
    STATUS_TAG,
    certificate_columns,
    certificate_metrics,
    certificate_tags,
    change_in_words,
    round_metrics,
    score_columns,
    set_metrics,
    statuses,
)
from formulation import Solution

ROUNDING = 1e-12  # of a mean of scores
PARAMS = (*SAMPLE, *SOLVE, *BLOCKS, "by_class", *NETWORK, "seed", "dataset")
RESUMED = "resumed"
NOTE = "mlflow.note.content"
# The files behind each task's digest, by their paths among the artifacts.
FILES = {
    "score set": ("scores.npz", "solution/solution.npz"),
    "average": ("scores.npz", "importance.npz"),
    "sample": ("scoring_set_*.npz", "classes.npz"),
    "sample kind": ("scoring_set_*.npz", "classes.npz"),
    "lay out programs": ("programs.npz", "representations/*"),
}


def require_told(solved: StoredResult, solution: Solution) -> None:
    """Raise CheckRefused where a program's run says something else of its solution than the solution does."""
    certificate, where = solution.certificate, f"run_id={solved.run_id}"
    _require_values(where, "metric", solved.metrics(), certificate_metrics(certificate))
    _require_history(solved, solution)
    _require_values(where, "tag", solved.tags(), certificate_tags(solution))
    require_contents(solved, ("score set",))


def require_told_together(scored: StoredResult, solved: Sequence[StoredResult], found: AggregatedScores) -> None:
    """Raise CheckRefused where a score run says something else of its solutions than these do."""
    where, wanted = f"run_id={scored.run_id}", set_metrics(found.certificates)
    tags = {STATUS_TAG: statuses(found.certificates)}
    if changed := change_in_words(wanted):
        tags[NOTE] = changed
    _require_values(where, "metric", scored.metrics(), wanted)
    _require_values(where, "tag", scored.tags(), tags)
    _require_table(scored, CERTIFICATES, certificate_columns(solved))
    _require_table(scored, SCORES, score_columns(found))
    require_contents(scored, ("sample", "sample kind", "lay out programs", "average"))


def require_params(scored: StoredResult, asked: Settings) -> None:
    """Raise CheckRefused where a logged parameter is not the setting of that name in settings.json."""
    where, params = f"run_id={scored.run_id}", scored.params()
    for name in PARAMS:
        if name not in params:
            if name not in NETWORK:
                raise CheckRefused(f"{where}: it has no param {name}; score again")
            continue
        try:
            told = getattr(settings_of({name: params[name]}), name)
        except SettingsError as error:
            raise CheckRefused(f"{where}: its param {name} is damaged ({error}); score again") from error
        if told != getattr(asked, name):
            raise CheckRefused(
                f"{where}: its param says {name}={told}, its settings {name}={getattr(asked, name)}; score again"
            )


def require_contents(run: StoredResult, tasks: Sequence[str]) -> None:
    """Raise CheckRefused where files that a task left are not those whose digest the run was told."""
    told = {task: digest for task, digest in run.contents().items() if task in tasks}
    if not told or ("average" in tasks and "average" not in told):
        raise CheckRefused(f"run_id={run.run_id}: no tag says what its files hold (content.{tasks[-1]}); score again")
    names = run.files()
    for task, digest in told.items():
        files = [name for name in names if any(fnmatch(name, each) for each in FILES[task])]
        found = content_of({f"files/{name}": _digest(run, name) for name in files})
        if found != digest:
            raise CheckRefused(
                f"run_id={run.run_id}: {', '.join(files) or 'its files'} are not what the task {task!r} left (tag "
                f"content.{task}); score again"
            )


def _digest(run: StoredResult, name: str) -> str:
    with run.opened(name) as path:
        return hashlib.sha256(path.read_bytes()).hexdigest()


def _require_values(where: str, kind: str, told: Mapping[str, object], wanted: Mapping[str, object]) -> None:
    for name, value in wanted.items():
        if name not in told:
            raise CheckRefused(f"{where}: it has no {kind} {name}, its solution says {value}; score again")
        if told[name] != value:
            raise CheckRefused(f"{where}: its {kind} {name} says {told[name]}, its solution {value}; score again")
    for name in told:
        family = name.startswith(("certificate.", "relaxed_change."))
        if family and name not in wanted:
            raise CheckRefused(f"{where}: its {kind} {name} says {told[name]}, its solution nothing; score again")


def _require_history(solved: StoredResult, solution: Solution) -> None:
    """The metrics of every round are those of the solution's history, step by step."""
    where = f"run_id={solved.run_id}"
    wanted = {(name, each.index): value for each in solution.rounds for name, value in round_metrics(each).items()}
    told = solved.metric_values(sorted({name for name, _ in wanted}))
    for (name, step), value in sorted(wanted.items()):
        # What is told anew, because its data have changed, is told beside what was there.
        said = told[name, step][-1] if (name, step) in told else "nothing"
        if said != value:
            raise CheckRefused(
                f"{where}: its metric {name} says {said} at step {step}, its solution's rounds {value}; score again"
            )
    if RESUMED not in solved.tags() and (extra := sorted(set(told) - set(wanted))):
        name, step = extra[0]
        raise CheckRefused(
            f"{where}: its metric {name} has a step {step}, its solution {len(solution.rounds)} rounds; score again"
        )


def _require_table(run: StoredResult, file: str, columns: Mapping[str, Sequence[object]]) -> None:
    wanted, where = json.loads(json.dumps(table_of(columns))), f"run_id={run.run_id}: {file}"
    told = run.json(file)
    names, rows = told.get("columns"), told.get("data")
    if names != wanted["columns"] or not isinstance(rows, list) or len(rows) != len(wanted["data"]):
        raise CheckRefused(f"{where} has other columns or rows than its solutions; score again")
    for row, found in zip(rows, wanted["data"], strict=True):
        for place, name in enumerate(wanted["columns"]):
            if not isinstance(row, list) or len(row) != len(found) or not _same(row[place], found[place]):
                raise CheckRefused(f"{where} says something else than the solutions in column {name}; score again")


def _same(told: object, found: object) -> bool:
    if isinstance(told, float) and isinstance(found, float):
        return math.isclose(told, found, rel_tol=ROUNDING, abs_tol=ROUNDING)
    return bool(told == found)
