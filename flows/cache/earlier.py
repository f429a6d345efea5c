"""Earlier results: what a stage reads of those before it, wherever they are kept."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from flows.errors import ArtifactError
from flows.redaction import reason_of


class EarlierResult(ABC):
    """What an earlier stage left, to be read: a run of the tracking store, or a result in memory.

    Attributes:
        run_id, experiment_id: the address of the run that holds it; empty where none does.
    """

    run_id: str
    experiment_id: str

    @abstractmethod
    def opened(self, path: str) -> AbstractContextManager[Path]:
        """A file or folder as a local copy that is gone after the block; raises ArtifactError where there is none."""

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """The latest value of every metric."""

    @abstractmethod
    def tags(self) -> dict[str, str]:
        """The tags by name."""

    @abstractmethod
    def below(self, stage: str) -> Sequence["EarlierResult"]:
        """The results of a stage that belong to this one, oldest first."""

    def json(self, file: str) -> dict[str, object]:
        """A JSON object; raises ArtifactError where there is none that can be read."""
        with self.opened(file) as path:
            try:
                value = json.loads(path.read_text("utf-8"), object_pairs_hook=_each_once)
            except (OSError, ValueError, RecursionError) as error:
                reason = reason_of(error).replace(str(path), file)
                raise ArtifactError(
                    f"run_id={self.run_id}: {file} cannot be read ({reason}); choose another run"
                ) from error
        if not isinstance(value, dict):
            raise ArtifactError(f"run_id={self.run_id}: {file} holds no JSON object; choose another run")
        return value

    def rows(self, file: str) -> list[dict[str, Any]]:
        """The rows of a table, each by its columns' names; raises ArtifactError where there is no table."""
        table = self.json(file)
        names, rows = table.get("columns"), table.get("data")
        if not isinstance(names, list) or not isinstance(rows, list) or not all(_fits(row, names) for row in rows):
            raise ArtifactError(f"run_id={self.run_id}: {file} holds no table; choose another run")
        return [dict(zip(map(str, names), row, strict=True)) for row in rows]


class StoredResult(EarlierResult):
    """An earlier result as a tracking store tells it: with all that a check holds against its solutions."""

    @abstractmethod
    def below(self, stage: str) -> Sequence["StoredResult"]:
        """The results of a stage that belong to this one, oldest first."""

    @abstractmethod
    def params(self) -> Mapping[str, str]:
        """The parameters, as they were spelt."""

    @abstractmethod
    def metric_values(self, names: Iterable[str]) -> dict[tuple[str, int], list[float]]:
        """Every value that was logged of these metrics, by name and step, the latest last."""

    @abstractmethod
    def files(self, folder: str = "") -> list[str]:
        """The paths of all files, below a folder."""

    @abstractmethod
    def contents(self) -> Mapping[str, str]:
        """The digest of the files that each task handed on, by task."""

    @abstractmethod
    def is_finished(self) -> bool:
        """Whether the work has ended, and well."""


def _fits(row: object, names: list[Any]) -> bool:
    return isinstance(row, list) and len(row) == len(names)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is in it twice")
    return found
