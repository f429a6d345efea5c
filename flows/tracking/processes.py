"""Identity of a process: the host, the kernel's boot and the PID namespace in which its number means it."""

import hashlib
import os
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PROC = Path("/proc")
MACHINE_IDS = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
STATE, STARTED = 0, 19  # fields of /proc/<pid>/stat behind the name: the process's state, and when it began
DEAD = ("Z", "X")  # has ended, and waits for its parent to look
UNKNOWN = "-"


@dataclass(frozen=True)
class Host:
    """Where a process's number means that process and no other.

    Attributes:
        name: the machine's, for people; machines of a cluster may share it.
        machine: a digest of the machine's id; systems copied from one image may share it, or have none.
        boot: the kernel's id of this boot.
        namespace: the PID namespace, by its kind and number; containers of one machine have one each.
    """

    name: str
    machine: str
    boot: str
    namespace: str

    def __str__(self) -> str:
        return f"{self.name} {self.machine}/{self.boot}/{self.namespace}"

    def is_known(self) -> bool:
        """Whether no other host has the same identity: a boot's id is drawn anew, a namespace's is the kernel's own."""
        return UNKNOWN not in (self.boot, self.namespace)


def this_process() -> str:
    """This process by its host, its number and when it began: numbers are given out again."""
    number = os.getpid()
    return f"{_host()} {number} {_began(number) or UNKNOWN}"


def is_gone(process: str) -> bool:
    """Whether a process of that description is known to have ended.

    Never of one on another host, after a restart of this one, or where either cannot be told.
    """
    match process.split():
        case [name, identity, number, began] if identity.count("/") == 2 and number.isdecimal():
            host = Host(name, *identity.split("/"))
        case _:
            return False
    return host.is_known() and host == _host() and _has_ended(int(number), began)


def is_elsewhere(process: str) -> bool:
    """Whether a process of that description cannot be seen from here, so that nobody here can tell whether it lives."""
    host = _host()
    return not host.is_known() or process.split()[:2] != str(host).split()


def _has_ended(number: int, began: str) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        # Another user's: its number may have been given out again, which shows below.
        pass
    except OverflowError:
        return False
    if not (fields := _fields(number)):
        return False
    return fields[STATE] in DEAD or (began != UNKNOWN and fields[STARTED] != began)


def _host() -> Host:
    return Host(socket.gethostname(), _machine(), boot_identity(), _namespace())


@cache
def _machine() -> str:
    # The id itself is not to be given away: man 5 machine-id.
    for file in MACHINE_IDS:
        if found := _text(file):
            return hashlib.sha256(f"critical-neurons {found}".encode()).hexdigest()[:16]
    return UNKNOWN


@cache
def boot_identity() -> str:
    return _text(PROC / "sys/kernel/random/boot_id") or UNKNOWN


def _namespace() -> str:
    try:
        return (PROC / "self/ns/pid").readlink().name
    except OSError:
        return UNKNOWN


def _began(number: int) -> str:
    fields = _fields(number)
    return fields[STARTED] if fields else ""


def _fields(number: int) -> list[str]:
    """The words behind the name in a process's line of /proc; none where that is hidden, or another namespace's."""
    try:
        if (PROC / "self").readlink().name != str(os.getpid()):
            return []
    except OSError:
        return []
    # The name before may hold blanks and brackets.
    return _text(PROC / str(number) / "stat").rpartition(")")[2].split()


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
