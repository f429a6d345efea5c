"""The published table: one row per pruned network in a run of its own, means over the seeds on the run on top."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import mean, stdev
from typing import Any

from flows.cache import EarlierResult, OnPart, StageResult, unheard
from flows.config import Settings, subject_of
from flows.reporting import figures
from flows.stages.scoring import STATUS_TAG

LOG = logging.getLogger(__name__)
ROW, TABLE, MARKDOWN, FIGURE = "row.json", "table.json", "table.md", "table.png"
NETWORKS = {  # what is measured, and its column
    "dense": "dense",
    "program": "program",
    "program_epoch": "program, one epoch",
    "random": "random",
    "critical": "critical",
    "snip_units": "SNIP, units",
    "snip_connections": "SNIP, connections",
}
SHARES = ("units_removed_share", "parameters_removed_share", "published_parameters_removed_share")
CONNECTIONS_SHARE = "snip_connections_published_share"
KEYS = ("model", "dataset", "threshold", "settings")
NOTE_LIMIT = 7500  # characters; the store cuts a description off at 8000
TableRecord = Mapping[str, Any]


@dataclass(frozen=True)
class Line:
    """One line of the table: mean and standard error over the seeds of each figure (None with one seed)."""

    model: str
    dataset: str
    threshold: float
    settings: str
    seeds: int
    status: str
    means: Mapping[str, float]
    errors: Mapping[str, float] | None

    @property
    def name(self) -> str:
        """The line's name, which no other line has."""
        return f"{self.model} on {self.dataset}, threshold {self.threshold:g}, {self.settings}"


def describe_row(
    settings: Settings,
    name: str,
    trained: EarlierResult,
    scored: EarlierResult,
    pruned: EarlierResult,
    retrained: EarlierResult,
    connections: EarlierResult,
    sparse: Sequence[EarlierResult],
    *,
    on_part: OnPart = unheard,
) -> StageResult:
    """Log what one threshold came to with one kind of settings, `name`: test accuracies, shares removed, statuses.

    `connections` is the run of SNIP's choice per connection, `sparse` those of training per unit and per connection.
    """
    result = StageResult(on_part)
    at_once = pruned.metrics()
    per_unit, per_connection = (each.metrics()["test_accuracy"] for each in sparse)
    accuracies = {
        "dense": trained.metrics()["test_accuracy"],
        "program": at_once["test_accuracy"],
        "program_epoch": retrained.metrics()["test_accuracy"],
        "random": at_once["random_accuracy_mean"],
        "critical": at_once["critical_accuracy"],
        "snip_units": per_unit,
        "snip_connections": per_connection,
    }
    shares = {share: at_once[share] for share in SHARES}
    shares[CONNECTIONS_SHARE] = connections.metrics()["published_parameters_removed_share"]
    tags = [each.tags().get(STATUS_TAG, "") for each in (scored, pruned)]
    status = _joined(tags)
    keys = {"model": settings.model, "dataset": settings.dataset, "threshold": settings.threshold, "settings": name}
    counts = pruned.json("removal.json")
    whole = {count: counts[count] for count in ("units_removed", "units_total")}
    result.add_json({**keys, "seed": settings.seed, "status": status, **whole, **accuracies, **shares}, ROW)
    result.add_metrics({f"accuracy_{each}": value for each, value in accuracies.items()} | shares)
    result.add_tags({STATUS_TAG: status})
    result.add_figure(figures.accuracy_figure({NETWORKS[each]: accuracies[each] for each in NETWORKS}), FIGURE)
    said = ", ".join(f"{NETWORKS[each]} {100 * value:.2f} %" for each, value in accuracies.items())
    where = f"{subject_of(settings)}, seed {settings.seed}, {name}, threshold {settings.threshold:g}"
    LOG.info("row      %s (%s): %.1f %% of the units gone; %s", where, status, 100 * shares[SHARES[0]], said)
    return result


def tabulate(settings: Settings, rows: Sequence[EarlierResult], *, on_part: OnPart = unheard) -> StageResult:
    """Log all rows as one table with means and standard errors over the seeds: columns, markdown, metrics, figure."""
    result = StageResult(on_part)
    lines = lines_of([each.json(ROW) for each in rows])
    result.add_table(columns_of(lines), TABLE)
    table = "\n".join(markdown_of(lines))
    result.add_text(table + "\n", MARKDOWN)
    result.add_figure(figures.table_figure(panels_of(lines), list(NETWORKS.values())), FIGURE)
    for line in lines:
        values = dict(line.means) | {f"{each}.error": value for each, value in (line.errors or {}).items()}
        result.add_metrics({f"{_metric_name(line)}/{each}": value for each, value in values.items()})
    statuses = _joined([line.status for line in lines])
    result.add_tags({STATUS_TAG: statuses})
    head = _note(settings, lines, statuses)
    whole = f"{head}\n\n{table}"
    short = f"{head}\n\nThe table is too long for here: {MARKDOWN}"
    result.add_note(whole if len(whole) <= NOTE_LIMIT else short)
    LOG.info("table    %s, %s and %s of the run on top; certificates: %s", TABLE, MARKDOWN, FIGURE, statuses)
    return result


def lines_of(records: Sequence[TableRecord]) -> list[Line]:
    """One line for all seeds of a network, a data set, a threshold and a kind of settings, in the order of a table."""
    groups: dict[tuple[Any, ...], list[TableRecord]] = {}
    for record in records:
        groups.setdefault(tuple(record[key] for key in KEYS), []).append(record)
    # As they come in, theirs before ours; but ours of one threshold directly below theirs.
    places = [list(dict.fromkeys(record[key] for record in records)) for key in KEYS]
    ranked = sorted(groups, key=lambda group: tuple(map(list.index, places, group)))
    names = (*NETWORKS, *SHARES, CONNECTIONS_SHARE)
    found = []
    for key in ranked:
        group = groups[key]
        values = {name: [float(record[name]) for record in group] for name in names}
        errors = {name: stdev(each) / sqrt(len(each)) for name, each in values.items()} if len(group) > 1 else None
        means = {name: mean(each) for name, each in values.items()}
        model, dataset, threshold, kind = key
        status = _joined([record["status"] for record in group])
        found.append(Line(model, dataset, threshold, kind, len(group), status, means, errors))
    return found


def columns_of(lines: Sequence[Line]) -> dict[str, list[object]]:
    """The lines as a table; the UI's comparison groups rows by the first column and compares the second."""
    columns: dict[str, list[object]] = {"row": [line.name for line in lines]}
    order = ("program", *(name for name in lines[0].means if name != "program"))
    columns |= {name: [line.means[name] for line in lines] for name in order}
    if all(line.errors for line in lines):
        columns |= {f"{name}.error": [(line.errors or {})[name] for line in lines] for name in order}
    return columns | {name: [getattr(line, name) for line in lines] for name in (*KEYS, "seeds", "status")}


def markdown_of(lines: Sequence[Line]) -> list[str]:
    """The lines of the table in markdown: accuracies and shares in %, standard errors in brackets."""
    heads = ("network, data", "threshold", "settings", *NETWORKS.values(), "units removed", "parameters removed")
    table = [f"| {' | '.join(heads)} | as published | status |", f"|{'---|' * (len(heads) + 2)}"]
    for line in lines:
        cells = [f"{line.model}, {line.dataset}", f"{line.threshold:g}", line.settings]
        cells += [_cell(line, name, 2) for name in NETWORKS] + [_cell(line, name, 1) for name in SHARES]
        table.append(f"| {' | '.join(cells)} | {line.status} |")
    return table


def panels_of(lines: Sequence[Line]) -> dict[str, dict[str, tuple[list[float], list[float]]]]:
    """Per network and data set, per threshold and kind of settings, means and errors in the order of NETWORKS."""
    panels: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for line in lines:
        means, errors = ([part.get(name, 0.0) for name in NETWORKS] for part in (line.means, line.errors or {}))
        panel = panels.setdefault(f"{line.model} on {line.dataset}", {})
        panel[f"{line.settings}, threshold {line.threshold:g}"] = (means, errors)
    return panels


def _cell(line: Line, name: str, digits: int) -> str:
    error = f" ({100 * line.errors[name]:.{digits}f})" if line.errors else ""
    return f"{100 * line.means[name]:.{digits}f}{error}"


def _note(settings: Settings, lines: Sequence[Line], statuses: str) -> str:
    ahead = _ahead(lines)
    seeds = f"{settings.seeds} seeds from {settings.seed}" if settings.seeds > 1 else f"seed {settings.seed}"
    return (
        f"**The published table**: test accuracy in %, {seeds}, {settings.epochs} epochs of training; standard errors "
        f"over the seeds in brackets. *published* is the authors' program; *own* removes the same number of units with "
        f"the project's own settings. Random, critical and SNIP per unit remove the same counts of every layer, SNIP "
        f"per connection as many weights as the compacted network has parameters less. Own settings are ahead before "
        f"any retraining in {ahead} of {len(lines) // 2} comparisons. Certificates: {statuses}. One run per row below."
    )


def _ahead(lines: Sequence[Line]) -> int:
    found: dict[tuple[object, ...], dict[str, float]] = {}
    for line in lines:
        found.setdefault((line.model, line.dataset, line.threshold), {})[line.settings] = line.means["program"]
    return sum(pair["own"] > pair["published"] for pair in found.values())


def _metric_name(line: Line) -> str:
    """The line's name in characters that a metric may have; models and data sets may be paths."""
    parts = (line.model, line.dataset, f"{line.threshold:g}", line.settings)
    return ".".join(re.sub(r"[^\w.\-]", "_", part)[-60:] for part in parts)


def _joined(statuses: Sequence[str]) -> str:
    """Each status once, in alphabetical order."""
    return ", ".join(sorted({word for each in statuses for word in each.split(", ") if word}))
