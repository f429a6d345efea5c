"""Prefect server of a flow's own, where none is named: started beside the imports, waited for when it is asked."""

import atexit
import fcntl
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)

from flows.errors import ServerError
from flows.redaction import redacted

PROGRAM = Path(__file__).with_name("prefect_process.py")
LONGEST = 2**20  # bytes of what a server writes that are looked at
ERROR = re.compile(r"[A-Za-z_][\w.]*(Error|Exception)\b")
START = "start one with `prefect server start` in another terminal"


@dataclass(frozen=True)
class OwnServer:
    """A started server.

    Attributes:
        process: its process, which ends when this one does.
        url: the address of its API.
        output: what it writes.
    """

    process: subprocess.Popen[bytes]
    url: str
    output: IO[bytes]

    def reason(self) -> str:
        """The last line of what it wrote that names an error, else the last one; empty if it wrote none."""
        # By position: the server writes from where this file's own is.
        said = os.pread(self.output.fileno(), LONGEST, 0).decode(errors="replace")
        lines = [line.strip() for line in said.split("\n") if line.strip()]
        return redacted(([line for line in lines if ERROR.match(line)] or lines or [""])[-1])


_started: list[OwnServer] = []  # one or none: a process has one, as it has one environment


def begin_own_server() -> None:
    """Start a server for this process where none is named, without waiting for it; raises ServerError if forbidden."""
    if PREFECT_API_URL.value() or _started:
        return
    if not PREFECT_SERVER_ALLOW_EPHEMERAL_MODE.value():
        raise ServerError(
            f"PREFECT_API_URL is not set, and PREFECT_SERVER_ALLOW_EPHEMERAL_MODE forbids a server of this flow's own: "
            f"{START} and set PREFECT_API_URL to http://127.0.0.1:4200/api, or allow it"
        )
    try:
        _started.append(_start())
    except OSError as error:
        raise ServerError(
            f"this flow's own Prefect server cannot be started ({error.strerror or error}): {_name_one()}"
        ) from error
    # Before Prefect's own, which still send it what they have: what is registered first is called last.
    atexit.register(end_own_server)


def _start() -> OwnServer:
    # Open before the server runs: who asks too early waits, and no other process can take the port.
    with socket.create_server(("127.0.0.1", 0)) as opened:
        output = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the server
        # Not one of the numbers that the process takes for what it reads and writes.
        number = fcntl.fcntl(opened.fileno(), fcntl.F_DUPFD_CLOEXEC, 3)
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", str(PROGRAM), str(number)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[number],
                start_new_session=True,  # a terminal's Ctrl-C is not for it: it goes when the flow has ended
            )
        finally:
            os.close(number)
        return OwnServer(process, f"http://127.0.0.1:{opened.getsockname()[1]}/api", output)


@contextmanager
def own_server_answering() -> Iterator[None]:
    """Wait until the server begun for this process answers, if any, and have Prefect ask it in the block.

    Raises:
        ServerError: it ended, or did not answer in time.
    """
    if not _started:
        yield
        return
    [server] = _started
    _wait_for(server)
    with temporary_settings({PREFECT_API_URL: server.url}):
        yield


def own_server_address() -> str:
    """The address of the server begun for this process; empty if none was."""
    return _started[0].url if _started else ""


def end_own_server(patience: float = 0.0) -> None:
    """End the server begun for this process, if any, and wait so many seconds for that."""
    while _started:
        server = _started.pop()
        server.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.process.wait(patience)
        for file in (server.process.stdin, server.output):
            if file is not None:
                file.close()


def _wait_for(server: OwnServer) -> None:
    seconds = PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
    try:
        httpx.get(f"{server.url}/health", timeout=seconds, trust_env=False).raise_for_status()
    except httpx.TimeoutException as error:
        end_own_server()
        raise ServerError(
            f"this flow's own Prefect server did not start within {seconds} s: give it longer "
            f"(PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS=300), or {_name_one()}"
        ) from error
    except httpx.HTTPError as error:
        said = server.reason() or type(error).__name__
        end_own_server()
        raise ServerError(f"this flow's own Prefect server did not start ({said}): {_name_one()}") from error


def _name_one() -> str:
    return f"{START} and set PREFECT_API_URL to http://127.0.0.1:4200/api"
