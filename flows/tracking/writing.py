"""Writing to a run, by its id and through the client: a bare `log_metric` in a pool thread would open an orphan run.

Every function tells a run something as entries of `flows.records`. A :class:`Writer` keeps them in its record and sends
metrics at once, so that they can be watched; the rest follows when the record is sealed. Any other run is told at once.
"""

import io
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow.data
import numpy as np
from matplotlib.figure import Figure
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.entities import Param
from mlflow.tracking.multimedia import compress_image_size
from PIL import Image
from torch import Tensor

from flows.records import Data, Draft, Entry, File, Metrics, Tags
from flows.tracking.publishing import tell
from flows.tracking.runs import Run, Writer
from flows.tracking.stores import reached

LOGGED_IMAGES = {"mlflow.loggedImages": "True"}


def log_params(run: Run, values: Mapping[str, object]) -> None:
    """Log the parameters that the run does not have yet.

    `mlflow run` has logged the given ones in their raw spelling, and a second spelling of the same is refused.
    """
    with reached(run.uri) as client:
        present = client.get_run(run.run_id).data.params
        missing = [Param(name, str(value)) for name, value in values.items() if name not in present]
        client.log_batch(run.run_id, params=missing)


def log_metrics(run: Run, values: Mapping[str, float], step: int = 0) -> None:
    """Log figures that belong to one step, in one call."""
    _log(run, Metrics({name: float(value) for name, value in values.items()}, step, int(time.time() * 1000)))


def log_tags(run: Run, tags: Mapping[str, str]) -> None:
    """Set tags."""
    _log(run, Tags(dict(tags)))


def log_note(run: Run, markdown: str) -> None:
    """Set the description that the UI shows on top of a run."""
    log_tags(run, {"mlflow.note.content": markdown})


def log_json(run: Run, value: Mapping[str, object], file: str) -> None:
    """Log a JSON object as an artifact."""
    _log_bytes(run, json.dumps(dict(value), indent=2).encode(), file)


def log_text(run: Run, text: str, file: str) -> None:
    """Log a text as an artifact."""
    _log_bytes(run, text.encode(), file)


def log_table(run: Run, columns: Mapping[str, Sequence[object]], file: str) -> None:
    """Log a table that the UI compares between runs."""
    rows = [[_cell(value) for value in row] for row in zip(*columns.values(), strict=True)]
    _log_bytes(run, json.dumps({"columns": list(columns), "data": rows}).encode(), file, table=True)


def log_files(run: Run, path: Path, folder: str | None = None) -> None:
    """Log a file, or all files of a folder, as artifacts."""
    for each in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if each.is_file():
            name = each.relative_to(path).as_posix() if path.is_dir() else path.name
            _log_bytes(run, each.read_bytes(), f"{folder}/{name}" if folder else name)


def log_picture(run: Run, pixels: np.ndarray, key: str, step: int = 0) -> None:
    """Log a picture [height, width, 3], uint8, that the UI's charts show beside those of other runs and steps."""
    picture = Image.fromarray(pixels)
    # MLflow's own names, with a time and a random part; without them, what is logged again is there once.
    name = f"images/{key.replace('/', '~')}+step+{step}+timestamp+{step}+{len(key):08x}-0000-4000-8000-{step:012x}"
    _log_bytes(run, _encoded(picture, "PNG"), f"{name}.png")
    _log_bytes(run, _encoded(compress_image_size(picture), "WEBP"), f"{name}+compressed.webp")
    log_tags(run, LOGGED_IMAGES)


def log_figure(run: Run, figure: Figure, file: str) -> None:
    """Log a matplotlib figure as an artifact."""
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    _log_bytes(run, content.getvalue(), file)


def log_dataset(run: Run, name: str, images: Tensor, labels: Tensor, *, context: str, digest: str) -> None:
    """Log images [n, C, H, W] and labels [n] as a dataset input of the run: name, shapes and digest, no pixels."""
    source = CodeDatasetSource(tags={"name": name, "sha256": digest})
    # MLflow's digests are at most 36 characters long.
    data = mlflow.data.from_numpy(
        images.numpy(), source=source, targets=labels.numpy(), name=f"{name} {context}", digest=digest[:16]
    )._to_mlflow_entity()
    _log(run, Data(data.name, data.digest, data.source_type, data.source, data.schema, data.profile, context))


def _log(run: Run, entry: Entry) -> None:
    if isinstance(run, Writer):
        run.append(entry)
    else:
        tell(run, [entry], Path())


def _log_bytes(run: Run, content: bytes, file: str, *, table: bool = False) -> None:
    entry = File(file, table)
    if isinstance(run, Writer):
        draft: Draft = run.draft
        _write(content, draft.files / file)
        run.append(entry)
        return
    with reached(run.uri), TemporaryDirectory() as place:
        _write(content, Path(place) / file)
        tell(run, [entry], Path(place))


def _write(content: bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _cell(value: object) -> object:
    """A value as JSON has it, which knows neither NaN nor numpy's types."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _encoded(picture: Image.Image, kind: str) -> bytes:
    content = io.BytesIO()
    picture.save(content, format=kind)
    return content.getvalue()
