"""Results of stages: metrics, tags, files, pictures and data sets as plain values, which no store has heard of yet.

A stage fills one and returns it; `flows.execution` keeps it as a record, and `flows.tracking` publishes that.
"""

import io
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from flows.cache.earlier import EarlierResult
from flows.cache.entries import Metrics, Tags
from flows.cache.names import is_path, metric_name
from flows.errors import ArtifactError

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # takes seconds to import

NOTE = "mlflow.note.content"
STAGE_TAG = "stage"


@dataclass(frozen=True)
class Artifact:
    """A file by its path and its bytes; a table is one that runs are compared by."""

    path: str
    content: bytes
    table: bool = False


@dataclass(frozen=True, eq=False)
class KeyedPicture:
    """Pixels [height, width, 3], uint8, that are shown beside those of the same key of other runs and steps."""

    pixels: NDArray[Any]
    key: str
    step: int


@dataclass(frozen=True, eq=False)
class ReadImages:
    """Images [n, C, H, W] and labels [n] that a stage read: what is told of them is their shapes and digest."""

    name: str
    images: Tensor
    labels: Tensor
    context: str
    digest: str


@dataclass(frozen=True)
class Returned:
    """What a stage says to whoever called it, as JSON has it."""

    value: object


Part = Metrics | Tags | Artifact | KeyedPicture | ReadImages | Returned
OnPart = Callable[[Part], None]


def unheard(_: Part) -> None:
    """Nobody listens."""


@dataclass(frozen=True, eq=False)
class StageResult(EarlierResult):
    """What a stage found.

    Attributes:
        on_part: told of every part at once: figures can be watched, and what a failed stage had made is not lost.
        parts: in the order in which the stage found them; of two with one name the later counts.
        nested: results that belong to this one, each with its stage among its tags.
    """

    on_part: OnPart = unheard
    parts: list[Part] = field(default_factory=list)
    nested: Sequence["StageResult"] = ()
    run_id: str = ""
    experiment_id: str = ""

    def add(self, part: Part) -> None:
        """Add a part."""
        self.parts.append(part)
        self.on_part(part)

    def add_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Add figures that belong to one step."""
        figures = {metric_name(name): float(value) for name, value in values.items()}
        self.add(Metrics(figures, step, int(time.time() * 1000)))

    def add_tags(self, tags: Mapping[str, str]) -> None:
        """Add tags."""
        self.add(Tags(dict(tags)))

    def add_note(self, markdown: str) -> None:
        """Add the description that the UI shows on top of a run."""
        self.add_tags({NOTE: markdown})

    def add_json(self, value: Mapping[str, object], file: str) -> None:
        """Add a JSON object."""
        self.add_file(json.dumps(dict(value), indent=2).encode(), file)

    def add_text(self, text: str, file: str) -> None:
        """Add a text."""
        self.add_file(text.encode(), file)

    def add_table(self, columns: Mapping[str, Sequence[object]], file: str) -> None:
        """Add a table that the UI compares between runs."""
        self.add_file(json.dumps(table_of(columns)).encode(), file, table=True)

    def add_figure(self, figure: "Figure", file: str) -> None:
        """Add a matplotlib figure, as PNG."""
        content = io.BytesIO()
        figure.savefig(content, format="png", metadata={"Software": None})
        self.add_file(content.getvalue(), file)

    def add_files(self, path: Path, folder: str | None = None) -> None:
        """Add a file that lies on disk, or all files of a folder."""
        for each in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if each.is_file():
                name = each.relative_to(path).as_posix() if path.is_dir() else path.name
                self.add_file(each.read_bytes(), f"{folder}/{name}" if folder else name)

    def add_file(self, content: bytes, file: str, *, table: bool = False) -> None:
        """Add a file; raises ArtifactError for a path that would lie outside of its run."""
        # Names of layers, and tags of others' runs, are parts of it.
        if not is_path(file):
            raise ArtifactError(f"{file!r} is no path among a run's artifacts: a file stays in the folder of its run")
        self.add(Artifact(file, content, table))

    def add_picture(self, pixels: NDArray[Any], key: str, step: int = 0) -> None:
        """Add a picture [height, width, 3], uint8, that the UI's charts show beside those of other runs and steps."""
        self.add(KeyedPicture(pixels, key, step))

    def add_dataset(self, name: str, images: Tensor, labels: Tensor, *, context: str, digest: str) -> None:
        """Add images [n, C, H, W] and labels [n] as a data set that was read: name, shapes and digest, no pixels."""
        self.add(ReadImages(name, images, labels, context, digest))

    def returns(self, value: object) -> None:
        """Add what the caller is told; JSON must know it."""
        self.add(Returned(value))

    @property
    def value(self) -> object:
        """What the caller is told; None where that is nothing."""
        return next((part.value for part in reversed(self.parts) if isinstance(part, Returned)), None)

    @property
    def files(self) -> dict[str, bytes]:
        """The bytes of every file, by path."""
        return {part.path: part.content for part in self.parts if isinstance(part, Artifact)}

    def joined(self, later: "StageResult") -> "StageResult":
        """This result and that of a later stage as one, as where both are told to one run."""
        return StageResult(parts=[*self.parts, *later.parts], nested=(*self.nested, *later.nested), run_id=self.run_id)

    def metrics(self) -> dict[str, float]:
        """The value of the last step of every metric."""
        found: dict[str, tuple[int, float]] = {}
        for part in self.parts:
            if isinstance(part, Metrics):
                found |= {
                    name: (part.step, value)
                    for name, value in part.values.items()
                    if name not in found or found[name][0] <= part.step
                }
        return {name: value for name, (_, value) in found.items()}

    def tags(self) -> dict[str, str]:
        """The tags by name."""
        return {name: value for part in self.parts if isinstance(part, Tags) for name, value in part.values.items()}

    def below(self, stage: str) -> Sequence["StageResult"]:
        """Those of the nested results that are of a stage."""
        return [each for each in self.nested if each.tags().get(STAGE_TAG) == stage]

    @contextmanager
    def opened(self, path: str) -> Iterator[Path]:
        """A file or folder as a local copy that is gone after the block; raises ArtifactError where there is none."""
        found = {name: content for name, content in self.files.items() if name == path or name.startswith(f"{path}/")}
        if not found:
            raise ArtifactError(f"run_id={self.run_id}: it has no artifact {path}; choose another run")
        with TemporaryDirectory() as place:
            for name, content in found.items():
                (Path(place) / name).parent.mkdir(parents=True, exist_ok=True)
                (Path(place) / name).write_bytes(content)
            yield Path(place) / path


def table_of(columns: Mapping[str, Sequence[object]]) -> dict[str, object]:
    """A table as it is logged."""
    rows = [[_cell(value) for value in row] for row in zip(*columns.values(), strict=True)]
    return {"columns": list(columns), "data": rows}


def _cell(value: object) -> object:
    """A value as JSON has it, which knows neither NaN nor numpy's types."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
