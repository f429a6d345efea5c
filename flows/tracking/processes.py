"""Which process has a run open, so that another can tell whether it still does."""

import os
import socket
from functools import cache
from pathlib import Path

PROC = Path("/proc")
STARTED = 19  # fields behind the name in /proc/<pid>/stat before the one that says when the process began


def this_process() -> str:
    """This process by machine, number and, where the system says it, beginning: numbers are given out again."""
    return _described(os.getpid())


def is_gone(process: str) -> bool:
    """Whether a process of that description has been on this machine and is no more; of other machines' never."""
    host, _, rest = process.partition(" ")
    number = rest.partition(" ")[0]
    if host != socket.gethostname() or not number.isdigit():
        return False
    return not _lives(int(number)) or process != _described(int(number))


def _described(number: int) -> str:
    return " ".join(filter(None, (socket.gethostname(), str(number), _beginning(number))))


@cache
def _boot() -> str:
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text()[:8]
    except OSError:
        return ""


def _beginning(number: int) -> str:
    try:
        # The name before may hold blanks and brackets.
        words = (PROC / str(number) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return f"{words[STARTED]}-{_boot()}"


def _lives(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
