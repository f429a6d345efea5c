"""Digests of logged files: a run says of every file that is read again what was logged, as a tag."""

import hashlib
import logging
import re
from collections.abc import Mapping
from pathlib import Path

from flows.cache import is_path
from flows.errors import ArtifactError

LOG = logging.getLogger(__name__)
DIGEST_TAG = "sha256."
READ_AGAIN = (".npz", ".pt", ".json")  # other files are for people
LONGEST = 200  # characters of a path in a tag's name


def digest_tag(file: str) -> str:
    """The name of the tag with a file's digest; MLflow takes few characters there."""
    plain = re.fullmatch(r"[A-Za-z0-9_./ -]+", file) and len(file) <= LONGEST and is_path(file)
    return DIGEST_TAG + (file if plain else hashlib.sha256(file.encode()).hexdigest())


def digest_tags(file: str, path: Path, task: str = "") -> dict[str, str]:
    """The tag of a file that lies at a path, with the task that made it; none of a file that is not read again."""
    if not file.endswith(READ_AGAIN):
        return {}
    return {digest_tag(file): f"{_digest(path)} {task}".strip()}


def require_logged(run_id: str, tags: Mapping[str, str], file: str, local: Path) -> None:
    """Raise ArtifactError where a copy of a logged file or folder is not what the run's tags say was logged.

    Of a folder, every file that was logged must be there. A run of an earlier version says nothing: a warning.
    """
    below = f"{DIGEST_TAG}{file}/"
    wanted = [name for name in tags if name.startswith(below)]
    paths = {name.removeprefix(DIGEST_TAG): local / name.removeprefix(below) for name in wanted}
    if local.is_dir():
        paths |= {f"{file}/{each.relative_to(local).as_posix()}": each for each in local.rglob("*.*")}
    if not local.is_dir() or digest_tag(file) in tags:
        paths |= {file: local}
    for name, path in paths.items():
        said = tags.get(digest_tag(name), "").partition(" ")[0]
        if said and (not path.is_file() or _digest(path) != said):
            raise ArtifactError(
                f"run_id={run_id}: its {name} is not what was logged (SHA-256 differs): it was changed or damaged "
                f"since; put the file back, or run its stage again"
            )
        if not said and name.endswith(READ_AGAIN):
            LOG.warning("store    run %s says no digest of its %s: it is read as it is", run_id, name)


def files_of(tags: Mapping[str, str], task: str) -> list[str]:
    """The files of a task by their paths, as far as their names say them."""
    named = {name.removeprefix(DIGEST_TAG): value for name, value in tags.items() if name.startswith(DIGEST_TAG)}
    return [name for name, value in named.items() if value.partition(" ")[2] == task and name.endswith(READ_AGAIN)]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
