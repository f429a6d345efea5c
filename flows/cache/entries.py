"""Entries of a record: metrics, tags, files and data for the tracking store, one line of JSON each."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter


@dataclass(frozen=True)
class Metrics:
    """Figures of one step, and when they were measured, in milliseconds since 1970."""

    values: Mapping[str, float]
    step: int
    timestamp: int


@dataclass(frozen=True)
class Tags:
    """Tags by name."""

    values: Mapping[str, str]


@dataclass(frozen=True)
class File:
    """A file by its path, in the record and among the run's artifacts; a table is one that runs are compared by."""

    path: str
    table: bool = False


@dataclass(frozen=True)
class Data:
    """A data set that a run reads, in MLflow's words."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str
    profile: str
    context: str


Entry = Metrics | Tags | File | Data
KINDS: dict[str, type[Entry]] = {kind.__name__.lower(): kind for kind in (Metrics, Tags, File, Data)}


def line_of(entry: Entry) -> str:
    """An entry as a line."""
    return json.dumps({"kind": type(entry).__name__.lower(), **asdict(entry)}) + "\n"


def entry_of(line: str) -> Entry:
    """The entry of a line; raises ValueError, KeyError or TypeError for one that is none."""
    values = json.loads(line)
    if not isinstance(values, dict):
        raise ValueError(f"no JSON object: {line!r}")
    kind = KINDS[values.pop("kind")]
    if set(values) - set(kind.__dataclass_fields__):
        raise ValueError(f"unknown fields: {line!r}")
    TypeAdapter(kind).validate_json(json.dumps(values), strict=True)
    return kind(**values)
