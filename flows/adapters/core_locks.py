"""A core for every solver: how many there are, and the right to keep some busy, whatever else runs on this machine."""

import logging
import os
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from flows.errors import LockError

LOG = logging.getLogger(__name__)
POLL = 0.1  # seconds between two looks at whether a core is free
REMEDY = "remove it, or give TMPDIR another folder"


def cores() -> tuple[int, ...]:
    """The numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


@contextmanager
def free_core(threads: int) -> Iterator[None]:
    """Hold as many of this machine's cores as a solver has threads; waits, and says so once, while others hold them.

    Every process of this user asks the same locks, one per core; the system frees those of a process that dies.
    Raises LockError where the locks' folder is not this user's alone.
    """
    folder = _folder()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        _require_private(folder)  # names what lies in its place
        raise LockError(f"folder {folder} of the cores' locks cannot be made ({error.strerror}): {REMEDY}") from error
    _require_private(folder)
    mine = cores()
    with ExitStack() as held:
        # One caller at a time collects: two with half of what they need each would wait for each other for ever.
        with _turn(folder, mine) as told:
            _collect([_lock(folder, f"core-{core}") for core in mine], min(threads, len(mine)), held, told)
        yield


def require_locks() -> None:
    """Raise LockError where the locks' folder cannot be one of this user's alone; nothing is made."""
    _require_private(_folder())


def _folder() -> Path:
    try:
        return Path(tempfile.gettempdir()) / f"critical-neurons-{os.getuid()}"
    except OSError as error:
        raise LockError(f"there is no temporary folder for the cores' locks ({error.strerror}): set TMPDIR") from error


def _require_private(folder: Path) -> None:
    """Whoever else may write to the folder decides which programs run, and through links what is emptied."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise LockError(f"folder {folder} of the cores' locks cannot be read ({error.strerror}): {REMEDY}") from error
    if stat.S_ISLNK(found.st_mode):
        wrong = "a link"
    elif not stat.S_ISDIR(found.st_mode):
        wrong = "no folder"
    elif found.st_uid != os.getuid():
        wrong = f"of another user (number {found.st_uid})"
    elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        wrong = f"writable by others (mode {stat.S_IMODE(found.st_mode):o})"
    elif found.st_mode & stat.S_IRWXU != stat.S_IRWXU:
        wrong = f"closed to its owner (mode {stat.S_IMODE(found.st_mode):o})"
    else:
        return
    raise LockError(f"folder {folder} of the cores' locks is {wrong}: {REMEDY}")


@contextmanager
def _turn(folder: Path, mine: Sequence[int]) -> Iterator[bool]:
    """The right to collect cores; whether that had to be waited for, and was said."""
    turn = _lock(folder, "next")
    waited = not _try(turn)
    if waited:
        _say_waiting(mine)
        _try(turn, -1)
    try:
        yield waited
    finally:
        turn.release()


def _collect(locks: Sequence[FileLock], wanted: int, held: ExitStack, told: bool) -> None:
    while True:
        for lock in locks:
            if wanted and not lock.is_locked and _try(lock):
                held.callback(lock.release)
                wanted -= 1
        if not wanted:
            return
        if not told:
            _say_waiting(locks)
            told = True
        time.sleep(POLL)


def _lock(folder: Path, name: str) -> FileLock:
    return FileLock(folder / f"{name}.lock", thread_local=False)


def _try(lock: FileLock, seconds: float = 0) -> bool:
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        return False
    except OSError as error:
        raise LockError(f"lock {lock.lock_file} of a core cannot be held ({error.strerror}): {REMEDY}") from error
    return True


def _say_waiting(those: Sequence[object]) -> None:
    LOG.info("cores    a program waits: others keep the %d cores of this machine busy", len(those))
