"""Files of artifacts: arrays under the names of layers, written once and read back or refused."""

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.cache import EarlierResult, StageResult
from flows.errors import ArtifactError

SCORE_PREFIX = "score/"
UNREADABLE = (  # what numpy and zipfile raise for bytes that are no archive of arrays
    *(OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, NotImplementedError, RuntimeError),
    *(MemoryError, zlib.error, lzma.LZMAError, struct.error, zipfile.BadZipFile),
)


@contextmanager
def logged_file(result: StageResult, name: str) -> Iterator[Path]:
    with TemporaryDirectory() as place:
        path = Path(place) / name
        yield path
        result.add_files(path, name if path.is_dir() else None)


def log_values(result: StageResult, name: str, values: Mapping[str, NDArray[Any]]) -> None:
    with logged_file(result, name) as path:
        # Under a prefix, because a layer may bear the name of one of numpy's own arguments.
        np.savez(path, allow_pickle=False, **{SCORE_PREFIX + layer: each for layer, each in values.items()})


def logged_values(run: EarlierResult, name: str) -> dict[str, NDArray[Any]]:
    return {key.removeprefix(SCORE_PREFIX): values for key, values in logged_arrays(run, name).items()}


@contextmanager
def arrays_fit(run: EarlierResult, name: str) -> Iterator[None]:
    """What is made of logged arrays; raises ArtifactError where they are others than are needed."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ArtifactError(
            f"run_id={run.run_id}: {name} holds other arrays than are needed ({reason}); run its stage again"
        ) from error


def logged_arrays(run: EarlierResult, name: str) -> dict[str, np.ndarray]:
    with run.opened(name) as path:
        try:
            with zipfile.ZipFile(path):  # numpy would take a single array as well
                pass
            with np.load(path, allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
        except UNREADABLE as error:
            raise ArtifactError(f"run_id={run.run_id}: {name} cannot be read ({error}); run its stage again") from error
