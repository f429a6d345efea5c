"""Where records lie: one folder per task and key, written by one process at a time."""

import errno
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from filelock import FileLock, Timeout

from flows.errors import CacheError
from flows.records.record import DamagedRecord, Draft, Record, open_draft, read_record

LOG = logging.getLogger(__name__)
KEPT_DAYS = 30.0  # since a record was last of use
DAY = 86400.0
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@dataclass(frozen=True)
class Cache:
    """The folder of records."""

    root: Path

    def find(self, task: str, key: str) -> Record | None:
        """The record of a task's key; a damaged one is named in the log and removed."""
        folder = self._folder(task, key)
        if not folder.is_dir():
            return None
        try:
            record = read_record(folder)
        except DamagedRecord as error:
            LOG.warning("cache    %s: damaged, so %s is done again", error, task)
            shutil.rmtree(folder)
            return None
        folder.touch()
        return record

    def draft(self, task: str, key: str) -> Draft:
        """A record to be written; raises CacheError where that is impossible."""
        try:
            return open_draft(self._folder(task, key).with_suffix(".draft"))
        except OSError as error:
            raise CacheError(_fault(self.root, error)) from error

    def seal(self, draft: Draft, task: str, key: str, about: Mapping[str, object], seconds: float) -> Record:
        """Keep what was written; raises CacheError where the disk is full."""
        try:
            return draft.seal(self._folder(task, key), about, seconds)
        except OSError as error:
            raise CacheError(_fault(self.root, error)) from error

    @contextmanager
    def writing(self, task: str) -> Iterator[None]:
        """Work that writes files, here and to the system's temporary folder; raises CacheError where a disk is full."""
        try:
            yield
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise CacheError(
                f"{task}: nothing more can be written ({error.strerror}); free room in {self.root} and {gettempdir()}, "
                f"or name other folders by cache and $TMPDIR: the same command goes on from here"
            ) from error

    @contextmanager
    def locked(self, task: str, key: str) -> Iterator[None]:
        """The right to write a record; waits for a process that has it, which loses it when it dies."""
        lock = self.lock(f"{task}-{key}")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            LOG.info("cache    another process is at the same work (%s): waiting for what it finds", task)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def lock(self, name: str) -> FileLock:
        """A lock of that name, open; raises CacheError where the folder cannot be written to."""
        place = self.root / "locks"
        try:
            place.mkdir(parents=True, exist_ok=True)
            (place / ".writable").touch()
        except OSError as error:
            raise CacheError(_fault(self.root, error)) from error
        return FileLock(place / f"{name}.lock", thread_local=False)

    def forget(self, now: float | None = None) -> int:
        """Remove records that were of no use for a month; how many there were."""
        oldest = (now or time.time()) - KEPT_DAYS * DAY
        old = [folder for folder in self.root.glob("*/*") if folder.stat().st_mtime < oldest]
        for folder in old:
            shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
        return len(old)

    def _folder(self, task: str, key: str) -> Path:
        return self.root / task.replace(" ", "_") / key


@contextmanager
def without_cache() -> Iterator[Cache]:
    """A cache that is gone after the block."""
    with TemporaryDirectory() as place:
        yield Cache(Path(place))


def _fault(root: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"cache={root}: cannot be written to ({reason}); free or name another folder, or give cache=none"
