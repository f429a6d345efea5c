"""The cache folder: one folder per task and key, written by one process at a time.

Of what lies in the folder only sealed records, drafts and locks are ever removed; whatever else is found where one of
them should be is moved to the folder `aside` of the cache, and stays there. No link is followed.
"""

import errno
import logging
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

from filelock import FileLock, Timeout

from flows.cache.marker import (
    ASIDE,
    DRAFT,
    LOCK,
    LOCKS,
    WRITABLE,
    claim,
    is_draft,
    is_file,
    is_folder,
    is_lock,
    is_sealed,
    key_digest,
    set_aside,
)
from flows.cache.record import DamagedRecord, Draft, Record, open_draft, read_record
from flows.errors import CacheError

LOG = logging.getLogger(__name__)
KEPT_DAYS = 30.0  # since a record was last of use
DAY = 86400.0
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


@dataclass(frozen=True)
class Cache:
    """The folder of records."""

    root: Path

    def find(self, task: str, key: str) -> Record | None:
        """The record of a task's key; a damaged one, or one of something else, is named in the log and set aside."""
        folder = self._folder(task, key)
        if not os.path.lexists(folder):
            return None
        try:
            for each in (folder.parent, folder):
                if not is_folder(each):
                    raise DamagedRecord(f"{each} is no folder")
            record = read_record(folder)
            if (found := key_digest(record.about)) != key:
                raise DamagedRecord(f"{folder} is the record of another work ({found})")
        except DamagedRecord as error:
            self.reject(task, key, str(error))
            return None
        os.utime(folder)
        return record

    def reject(self, task: str, key: str, reason: str) -> None:
        """Set aside what lies where a task's record should be, and name it in the log: the work is done again."""
        folder = self._folder(task, key)
        LOG.warning("cache    %s: damaged, so %s is done again", reason, task)
        try:
            set_aside(self.root, folder if is_folder(folder.parent) else folder.parent)
        except OSError as error:
            raise CacheError(_fault(self.root, error)) from error

    def draft(self, task: str, key: str) -> Draft:
        """A record to be written; raises CacheError where that is impossible."""
        folder = self._folder(task, key)
        place = folder.with_name(folder.name + DRAFT)
        try:
            claim(self.root)
            if os.path.lexists(folder.parent) and not is_folder(folder.parent):
                set_aside(self.root, folder.parent)
            if is_draft(place):
                shutil.rmtree(place)
            elif os.path.lexists(place):
                set_aside(self.root, place)
            return open_draft(place)
        except OSError as error:
            raise CacheError(_fault(self.root, error)) from error

    def seal(self, draft: Draft, task: str, key: str, about: Mapping[str, object], seconds: float) -> Record:
        """Keep what was written; raises CacheError where the disk is full."""
        folder = self._folder(task, key)
        try:
            if is_sealed(folder):
                shutil.rmtree(folder)
            elif os.path.lexists(folder):
                set_aside(self.root, folder)
            return draft.seal(folder, about, seconds)
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
        lock = self.lock(f"{_file_name(task)}-{key}")
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
        """A lock of that name, open; raises CacheError where the folder is no cache, or cannot be written to."""
        place = self.root / LOCKS
        path = place / f"{name}{LOCK}"
        try:
            claim(self.root)
            for each, fits in ((place, is_folder), (path, is_file), (place / WRITABLE, is_file)):
                if os.path.lexists(each) and not fits(each):  # in this order: another may make it in between
                    set_aside(self.root, each)
            place.mkdir(exist_ok=True)
            (place / WRITABLE).touch()
        except OSError as error:
            raise CacheError(_fault(self.root, error)) from error
        return FileLock(path, thread_local=False)

    def forget(self, now: float | None = None) -> int:
        """Remove records, drafts and locks that were of no use for a month; how many records and drafts there were.

        One that another process is at is left, and so is everything else in the folder. Raises CacheError where the
        folder is no cache.
        """
        try:
            claim(self.root)
        except OSError as error:
            raise CacheError(_fault(self.root, error)) from error
        oldest = (now or time.time()) - KEPT_DAYS * DAY
        tasks = [each for each in _folders(self.root) if each.name not in (ASIDE, LOCKS)]
        removed = 0
        for folder in [each for task in tasks for each in _folders(task)]:
            with suppress(OSError):  # one that has gone since, or that may not be looked into
                if folder.lstat().st_mtime < oldest and (is_sealed(folder) or is_draft(folder)):
                    removed += self._removed(folder)
        for path in _entries(self.root / LOCKS):
            with suppress(OSError, Timeout):
                if is_lock(path) and path.lstat().st_mtime < oldest:
                    with FileLock(path, timeout=0, thread_local=False):
                        path.unlink()
        return removed

    def _removed(self, folder: Path) -> bool:
        try:
            with self.lock(f"{folder.parent.name}-{folder.name.removesuffix(DRAFT)}").acquire(timeout=0):
                shutil.rmtree(folder)
        except Timeout:
            return False
        except OSError as error:
            LOG.warning("cache    %s is of no use any more and cannot be removed (%s)", folder, error.strerror)
            return False
        return True

    def _folder(self, task: str, key: str) -> Path:
        return self.root / _file_name(task) / key


@contextmanager
def without_cache() -> Iterator[Cache]:
    """A cache that is gone after the block."""
    with TemporaryDirectory() as place:
        yield Cache(Path(place))


def _file_name(task: str) -> str:
    return task.replace(" ", "_")


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder; nothing where it is none, or cannot be read."""
    try:
        return sorted(folder.iterdir()) if is_folder(folder) else []
    except OSError:
        return []


def _folders(folder: Path) -> list[Path]:
    return [each for each in _entries(folder) if is_folder(each)]


def _fault(root: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"cache={root}: cannot be written to ({reason}); free or name another folder, or give cache=none"
