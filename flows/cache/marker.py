"""Ownership of a cache folder: a marker file in it, without which nothing in a folder is touched."""

import logging
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from flows.cache.record import ENTRIES, FILES, SEAL, DamagedRecord, digest_of, read_seal
from flows.errors import CacheError

LOG = logging.getLogger(__name__)
MARKER = ".critical-neurons-cache"
SAYS = "A cache of critical-neurons: finished work that its commands take over; removed after 30 days without use.\n"
LOCKS, ASIDE, LOCK, DRAFT = "locks", "aside", ".lock", ".draft"
WRITABLE = ".writable"
DIGITS = 32  # hexadecimal ones of a key
TASK, KEY = re.compile(r"[a-z][a-z0-9_]*"), re.compile(f"[0-9a-f]{{{DIGITS}}}")


def key_digest(about: object) -> str:
    """The key of a result that depends on these values: SHA-256 in 32 hexadecimal digits."""
    return digest_of(about)[:DIGITS]


def claim(root: Path) -> None:
    """Make a folder a cache: a new or an empty one, or one that holds nothing but a cache of an earlier version.

    Raises CacheError for any other folder; OSError where it cannot be made or written to.
    """
    if is_file(root / MARKER):
        return
    root.mkdir(parents=True, exist_ok=True)
    if foreign := next(_foreign(root), None):
        if is_file(root / MARKER):
            return  # another process has just made it one
        raise CacheError(
            f"cache={root}: the folder is not empty and no cache of this project (it holds {foreign}); name a new or "
            f"an empty folder, or give cache=none"
        )
    if os.path.lexists(root / MARKER) and not is_file(root / MARKER):  # in this order: it may appear in between
        set_aside(root, root / MARKER)
    written = root / f"{MARKER}.{secrets.token_hex(4)}"
    written.write_text(SAYS)
    written.replace(root / MARKER)


def set_aside(root: Path, path: Path) -> Path:
    """Move what lies at a path of a cache, whatever it is, to where nobody looks for it, and say so; its new place."""
    folder = root / ASIDE
    while os.path.lexists(folder) and not is_folder(folder):
        folder = root / f"{ASIDE}_{secrets.token_hex(4)}"
    folder.mkdir(exist_ok=True)
    place = folder / f"{'-'.join(path.relative_to(root).parts)}.{secrets.token_hex(4)}"
    path.rename(place)
    LOG.warning("cache    %s is not what belongs there: it is kept as %s", path, place)
    return place


def is_sealed(folder: Path) -> bool:
    """Whether a folder is a record under its own key, as far as it says; its files are not looked at."""
    try:
        return is_folder(folder) and key_digest(read_seal(folder).get("about")) == folder.name
    except DamagedRecord:
        return False


def is_draft(folder: Path) -> bool:
    """Whether a folder is a record that was never sealed."""
    fits = folder.suffix == DRAFT and KEY.fullmatch(folder.stem)
    return bool(fits) and is_folder(folder) and set(_names(folder)) <= {ENTRIES, FILES, SEAL}


def is_lock(path: Path) -> bool:
    """Whether a path is a lock: a file without content."""
    return path.suffix == LOCK and is_file(path) and path.lstat().st_size == 0


def is_file(path: Path) -> bool:
    """Whether a path is a file itself, no link to one."""
    return path.is_file() and not path.is_symlink()


def is_folder(path: Path) -> bool:
    """Whether a path is a folder itself, no link to one."""
    return path.is_dir() and not path.is_symlink()


def _foreign(root: Path) -> Iterator[str]:
    """What of a folder is not of a cache's form, by its path in the folder; one path for all where nothing is."""
    names = [name for name in _names(root) if not name.startswith(MARKER)]
    # No cache was ever without the folder of its locks.
    if names and not is_file(root / LOCKS / WRITABLE):
        yield names[0]
    for name in names:
        if not is_folder(root / name) or not TASK.fullmatch(name):
            yield name
        elif not name.startswith(ASIDE):
            for below in _names(root / name):
                path = root / name / below
                locks = name == LOCKS and (is_lock(path) or below == WRITABLE)
                if not (locks or is_draft(path) or is_sealed(path)):
                    yield f"{name}/{below}"


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())
