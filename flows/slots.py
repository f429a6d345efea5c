"""A core for every solver: how many there are, and the right to keep some busy, whatever else runs on this machine."""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import gettempdir

from filelock import FileLock, Timeout

LOG = logging.getLogger(__name__)
POLL = 0.1  # seconds between two looks at whether a core is free


def cores() -> tuple[int, ...]:
    """The numbers of the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


@contextmanager
def free_core(threads: int) -> Iterator[None]:
    """Hold as many of this machine's cores as a solver has threads; waits, and says so once, while others hold them.

    Every process of this user asks the same locks, one per core; the system frees those of a process that dies.
    """
    folder = Path(gettempdir()) / f"critical-neurons-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    mine = cores()
    with ExitStack() as held:
        # One caller at a time collects: two with half of what they need each would wait for each other for ever.
        with _turn(folder, mine) as told:
            _collect([_lock(folder, f"core-{core}") for core in mine], min(threads, len(mine)), held, told)
        yield


@contextmanager
def _turn(folder: Path, mine: Sequence[int]) -> Iterator[bool]:
    """The right to collect cores; whether that had to be waited for, and was said."""
    turn = _lock(folder, "next")
    waited = not _try(turn)
    if waited:
        _say_waiting(mine)
        turn.acquire()
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


def _try(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _say_waiting(those: Sequence[object]) -> None:
    LOG.info("cores    a program waits: others keep the %d cores of this machine busy", len(those))
