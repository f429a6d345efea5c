"""What a task did, on disk: a folder that is there whole, with a digest of every file, or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flows.records.entries import Entry, Metrics, entry_of, line_of

ENTRIES, FILES, SEAL = "entries.jsonl", "files", "sealed.json"
HANDED_ON = (".npz", ".pt")  # what later tasks read; other files are for people, and may hold times


class DamagedRecord(Exception):
    """A record whose files are not those that were sealed; the message names the first."""


@dataclass(frozen=True)
class Record:
    """A sealed record.

    Attributes:
        content: SHA-256 (hex) of the files that later tasks read; empty where there are none.
        seconds: that the work took.
    """

    folder: Path
    content: str
    seconds: float

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
        digests = {str(path.relative_to(self.folder)): _digest(path) for path in _files(self.folder)}
        seal = {"about": about, "seconds": seconds, "digests": digests}
        (self.folder / SEAL).write_text(json.dumps(seal, indent=1))
        for path in (*_files(self.folder), self.folder):
            _to_disk(path)
        if target.exists():
            shutil.rmtree(target)
        self.folder.replace(target)
        _to_disk(target.parent)
        return Record(target, _content(digests), seconds)


def open_draft(folder: Path) -> Draft:
    """An empty record to be written; what an interrupted one left in the folder is removed."""
    if folder.exists():
        shutil.rmtree(folder)
    (folder / FILES).mkdir(parents=True)
    return Draft(folder)


def read_record(folder: Path) -> Record:
    """The record of a folder; raises DamagedRecord where a file is missing, changed or left over."""
    try:
        seal = json.loads((folder / SEAL).read_text())
        digests, seconds = dict(seal["digests"]), float(seal["seconds"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedRecord(f"{folder / SEAL} cannot be read") from error
    found = {str(path.relative_to(folder)) for path in _files(folder)} - {SEAL}
    for name in sorted(found | set(digests)):
        if name not in found:
            raise DamagedRecord(f"{folder / name} is missing")
        if digests.get(name) != _digest(folder / name):
            raise DamagedRecord(f"{folder / name} is not what was written")
    return Record(folder, _content(digests), seconds)


def _content(digests: Mapping[str, str]) -> str:
    handed_on = {name: digest for name, digest in digests.items() if name.endswith(HANDED_ON)}
    return hashlib.sha256(json.dumps(handed_on, sort_keys=True).encode()).hexdigest() if handed_on else ""


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _to_disk(path: Path) -> None:
    """Hand a file or a folder's names over to the disk: a power cut then finds them whole."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
