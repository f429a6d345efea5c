"""Records: the result of a task on disk, whole and with a digest of every file, or not there at all."""

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.cache.entries import Entry, File, Metrics, entry_of, line_of

ENTRIES, FILES, SEAL = "entries.jsonl", "files", "sealed.json"
HANDED_ON = (".npz", ".pt")  # what later tasks read; other files are for people, and may hold times
UNREADABLE = (OSError, ValueError, KeyError, TypeError, RecursionError)


class DamagedRecord(Exception):
    """A record whose files are not those that were sealed; the message names the first."""


@dataclass(frozen=True)
class Record:
    """A sealed record.

    Attributes:
        content: SHA-256 (hex) of the files that later tasks read; empty where there are none.
        seconds: that the work took.
        about: everything that the work depended on, as JSON has it.
    """

    folder: Path
    content: str
    seconds: float
    about: Mapping[str, object] = field(default_factory=dict, compare=False)

    @property
    def files(self) -> Path:
        """The folder of its files, under the paths that they have among a run's artifacts."""
        return self.folder / FILES

    def entries(self) -> Iterator[Entry]:
        """What the task told the tracking store, in its order."""
        with (self.folder / ENTRIES).open() as lines:
            yield from map(entry_of, lines)

    def metrics(self) -> list[Metrics]:
        """The figures among them."""
        return [entry for entry in self.entries() if isinstance(entry, Metrics)]


@dataclass(frozen=True)
class Draft:
    """A record that is being written, in a folder of its own."""

    folder: Path
    entries: list[Entry] = field(default_factory=list)

    @property
    def files(self) -> Path:
        """Where its files are written, under the paths that they will have among a run's artifacts."""
        return self.folder / FILES

    def append(self, entry: Entry) -> None:
        """Add an entry; a file's is added after the file."""
        self.entries.append(entry)

    def seal(self, target: Path, about: Mapping[str, object], seconds: float) -> Record:
        """Put the record where it is found from now on; before that, nothing of it is there."""
        lines = self.folder / ENTRIES
        lines.write_text("".join(map(line_of, self.entries)))
        digests = {name: _digest(self.folder / name) for name in _files(self.folder)}
        body = {"about": about, "seconds": seconds, "digests": digests}
        (self.folder / SEAL).write_text(json.dumps({**body, "sum": digest_of(body)}, indent=1))
        for path in (*(self.folder / name for name in _files(self.folder)), self.folder):
            force_to_disk(path)
        self.folder.replace(target)
        force_to_disk(target.parent)
        return Record(target, content_of(digests), seconds, about)


def digest_of(value: object) -> str:
    """The digest of a value as JSON has it: SHA-256 (hex), the same before and after it has been a file."""
    return hashlib.sha256(json.dumps(json.loads(json.dumps(value)), sort_keys=True).encode()).hexdigest()


def open_draft(folder: Path) -> Draft:
    """An empty record to be written, in a folder that is not there yet."""
    (folder / FILES).mkdir(parents=True)
    return Draft(folder)


def read_record(folder: Path) -> Record:
    """The record of a folder; raises DamagedRecord where a file is missing, changed, left over, or no file."""
    seal = read_seal(folder)
    try:
        digests, seconds, about = dict(seal["digests"]), float(seal["seconds"]), dict(seal["about"])
        whole = seal.get("sum") == digest_of({"about": about, "seconds": seal["seconds"], "digests": digests})
        found = set(_files(folder)) - {SEAL}
    except UNREADABLE as error:
        raise DamagedRecord(f"{folder / SEAL} cannot be read") from error
    if not whole:
        raise DamagedRecord(f"{folder / SEAL} is not what was written")
    for name in sorted(found | set(digests)):
        if name not in found:
            raise DamagedRecord(f"{folder / name} is missing")
        try:
            same = digests.get(name) == _digest(folder / name)
        except OSError as error:
            raise DamagedRecord(f"{folder / name} cannot be read ({error.strerror})") from error
        if not same:
            raise DamagedRecord(f"{folder / name} is not what was written")
    record = Record(folder, content_of(digests), seconds, about)
    _require_entries(record, digests)
    return record


def read_seal(folder: Path) -> dict[str, Any]:
    """What a record says of itself; raises DamagedRecord where that is no file of JSON."""
    try:
        seal = json.loads(_content_of(folder / SEAL))
    except UNREADABLE as error:
        raise DamagedRecord(f"{folder / SEAL} cannot be read") from error
    if not isinstance(seal, dict):
        raise DamagedRecord(f"{folder / SEAL} holds no JSON object")
    return seal


def _require_entries(record: Record, digests: Mapping[str, str]) -> None:
    """Raise DamagedRecord for an entry that is none, and for a file that is not one of the record's."""
    try:
        told = list(record.entries())
    except UNREADABLE as error:
        raise DamagedRecord(f"{record.folder / ENTRIES} cannot be read") from error
    for entry in told:
        if isinstance(entry, File) and f"{FILES}/{entry.path}" not in digests:
            raise DamagedRecord(f"{record.folder / ENTRIES} names a file {entry.path} that the record has not")


def content_of(digests: Mapping[str, str]) -> str:
    """One digest of those files, by path and digest, that later tasks read; empty where there are none."""
    handed_on = {name: digest for name, digest in digests.items() if name.endswith(HANDED_ON)}
    return hashlib.sha256(json.dumps(handed_on, sort_keys=True).encode()).hexdigest() if handed_on else ""


def _files(folder: Path, above: str = "") -> list[str]:
    """The files of a folder by their paths in it; raises DamagedRecord for a link and whatever else is no file."""
    found = []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            name = above + entry.name
            if entry.is_dir(follow_symlinks=False):
                found += _files(Path(entry.path), f"{name}/")
            elif entry.is_file(follow_symlinks=False):
                found.append(name)
            else:
                raise DamagedRecord(f"{entry.path} is no file")
    return found


def _opened(path: Path) -> int:
    """A descriptor of a file; OSError for a link, a folder and a pipe, which would be waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "no file", str(path))
    return descriptor


def _content_of(path: Path) -> str:
    with os.fdopen(_opened(path), encoding="utf-8") as file:
        return file.read()


def _digest(path: Path) -> str:
    with os.fdopen(_opened(path), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def force_to_disk(path: Path) -> None:
    """Hand a file or a folder's names over to the disk: a power cut then finds them whole."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
