"""Writing to a run, by its id and through the client: a bare `log_metric` in a pool thread would open an orphan run.

What stages found becomes entries of a record, in MLflow's words; what leads up to stages is told to a run at once.
"""

import io
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow.data
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.entities import Param
from mlflow.exceptions import MlflowException
from mlflow.tracking.multimedia import compress_image_size
from PIL import Image

from flows.cache import (
    Artifact,
    Data,
    Entry,
    File,
    KeyedPicture,
    Metrics,
    OnPart,
    Part,
    ReadImages,
    Returned,
    StageResult,
    Tags,
    file_name,
)
from flows.errors import StoreError
from flows.tracking.logged_run import Run
from flows.tracking.publishing import tell
from flows.tracking.stores import reached

LOGGED_IMAGES = {"mlflow.loggedImages": "True"}


def log_params(run: Run, values: Mapping[str, object]) -> None:
    """Log the parameters that the run does not have yet.

    `mlflow run` has logged the given ones in their raw spelling, and a second spelling of the same is refused.
    """
    with reached(run.uri) as client, run.changing():
        present = run.params()
        missing = [Param(name, str(value)) for name, value in values.items() if name not in present]
        client.log_batch(run.run_id, params=missing)


def entries_of(parts: Iterable[Part], files: Path) -> list[Entry]:
    """What a stage found as entries of a record, with its files written to a folder; what it returned is none."""
    return [entry for part in parts for entry in _entries_of_part(part, files)]


def telling_at_once(run: Run) -> StageResult:
    """An empty result of which a run is told every part as it is added."""
    return StageResult(on_part=teller(run), run_id=run.run_id, experiment_id=run.experiment_id)


def teller(run: Run) -> OnPart:
    """What tells a run every part of a result at once."""

    def told(part: Part) -> None:
        with reached(run.uri), TemporaryDirectory() as place:
            tell(run, entries_of([part], Path(place)), Path(place))

    return told


def publish_unfinished(run: Run, parts: Iterable[Part]) -> None:
    """Tell a run what a failed task had made: its files; its figures are there, and tags are for what succeeds.

    Nothing is raised: the failure itself is what matters, and who tells it.
    """
    with suppress(StoreError, MlflowException, OSError), TemporaryDirectory() as place:
        found = entries_of(parts, Path(place))
        tell(run, [entry for entry in found if isinstance(entry, File | Data)], Path(place))


def _entries_of_part(part: Part, files: Path) -> list[Entry]:
    match part:
        case Metrics() | Tags():
            return [part]
        case Artifact(path, content, table):
            return [_written(files, path, content, table=table)]
        case KeyedPicture():
            return _picture(part, files)
        case ReadImages():
            return [_data(part)]
        case Returned():
            return []


def _written(files: Path, name: str, content: bytes, *, table: bool = False) -> File:
    path = files / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return File(name, table)


def _picture(part: KeyedPicture, files: Path) -> list[Entry]:
    picture = Image.fromarray(part.pixels)
    # MLflow's own names, with a time and a random part; without them, what is logged again is there once.
    own = f"{len(part.key):08x}-0000-4000-8000-{part.step:012x}"
    name = f"images/{file_name(part.key.replace('/', '~'))}+step+{part.step}+timestamp+{part.step}+{own}"
    return [
        _written(files, f"{name}.png", _encoded(picture, "PNG")),
        _written(files, f"{name}+compressed.webp", _encoded(compress_image_size(picture), "WEBP")),
        Tags(LOGGED_IMAGES),
    ]


def _data(part: ReadImages) -> Data:
    source = CodeDatasetSource(tags={"name": part.name, "sha256": part.digest})
    # MLflow's digests are at most 36 characters long.
    data = mlflow.data.from_numpy(
        *(part.images.numpy(), source),
        targets=part.labels.numpy(),
        name=f"{part.name} {part.context}",
        digest=part.digest[:16],
    )._to_mlflow_entity()
    return Data(data.name, data.digest, data.source_type, data.source, data.schema, data.profile, part.context)


def _encoded(picture: Image.Image, kind: str) -> bytes:
    content = io.BytesIO()
    picture.save(content, format=kind)
    return content.getvalue()
