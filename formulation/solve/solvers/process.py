"""Solver process: started once, asked often, ended when its time is up; its crash is an error here and nothing more."""

from __future__ import annotations

import os
import pickle
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from formulation.errors import SolverCrashed, SolverUnavailable

WORKER = Path(__file__).with_name("worker.py")
GRACE = 0.02  # of a time limit, by which a solver may pass it before its process is killed
LEAST_GRACE = 0.1  # s
ENDING = 5.0  # s that a process may take to end once its pipe is closed: it may be writing its memory to disk
CHUNK = 2**16
HEADER = 8  # bytes: the length of an answer


class SolverProcess:
    """A process that solves integer programs, see `worker`; started when it is first asked, and again after its end.

    `package` is what the solver is imported by.
    """

    def __init__(self, name: str, version: str, package: str) -> None:
        self.name, self.version, self.package = name, version, package
        self._process: subprocess.Popen[bytes] | None = None
        self._answers = -1
        self._said: IO[bytes] | None = None
        self._end: Callable[[], object] | None = None

    @property
    def pid(self) -> int | None:
        """The process's id; None while none runs."""
        return None if self._process is None else self._process.pid

    def ask(self, request: dict[str, Any], time_limit: float) -> dict[str, Any] | None:
        """The answer to a request; None where the solver had to be ended because it passed its time limit.

        The request is given `end`, the moment on the monotonic clock at which the solver is to stop by itself.

        Raises:
            SolverCrashed: the process ended before it answered.
            SolverUnavailable: no process can be started.
        """
        end = time.monotonic() + time_limit
        if self._process is None:
            self.start()
        sent = pickle.dumps(request | {"end": end})
        try:
            answer = self._exchanged(sent, end + max(LEAST_GRACE, GRACE * time_limit))
        except BaseException:  # an interruption too: nobody would read the answer
            self.close()
            raise
        if answer is None:
            self.close()
            return None
        found: dict[str, Any] = pickle.loads(answer)
        return found

    def close(self) -> None:
        """End the process, if one runs."""
        if self._end is not None:
            self._end()
        self._process = self._end = None

    def start(self) -> None:
        """Start a process, in place of none; raises SolverUnavailable."""
        reading, writing = os.pipe()
        # what a dying solver says is read from a file: a pipe that nobody reads would hold it up
        said = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        command = [sys.executable, "-P", str(WORKER), str(writing), str(os.getpid()), self.package]
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said, pass_fds=(writing,), bufsize=0)
        except OSError as error:
            os.close(reading)
            said.close()
            raise SolverUnavailable(f"no process for solver '{self.name}' can be started ({error})") from error
        finally:
            os.close(writing)
        assert process.stdin is not None
        for end in (reading, process.stdin.fileno()):
            os.set_blocking(end, False)
        self._process, self._answers, self._said = process, reading, said
        self._end = weakref.finalize(self, _ended, process, reading, said)

    def _exchanged(self, sent: bytes, end: float) -> bytes | None:
        """The bytes of the answer; None where the clock passes `end` before they are all here."""
        assert self._process is not None
        assert self._process.stdin is not None
        left, got = memoryview(sent), bytearray()
        with selectors.DefaultSelector() as ready:
            ready.register(self._answers, selectors.EVENT_READ)
            ready.register(self._process.stdin, selectors.EVENT_WRITE)
            while True:
                events = ready.select(max(0.0, end - time.monotonic()))
                if not events:
                    return None
                for key, _ in events:
                    if key.fd != self._answers:
                        left = left[self._written(left) :]
                        if not left:
                            ready.unregister(self._process.stdin)
                        continue
                    read = os.read(self._answers, CHUNK)
                    if not read:
                        raise self._crashed()
                    got += read
                    if len(got) >= HEADER and len(got) - HEADER == int.from_bytes(got[:HEADER], "little"):
                        return bytes(got[HEADER:])

    def _written(self, left: memoryview) -> int:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            return os.write(self._process.stdin.fileno(), left[:CHUNK])
        except BrokenPipeError:
            raise self._crashed() from None

    def _crashed(self) -> SolverCrashed:
        """The error for a process that ended by itself."""
        assert self._process is not None
        assert self._said is not None
        try:
            code = self._process.wait(ENDING)  # its end of the pipe is closed: it has ended, or is about to
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").split("\n")
        last = next((" ".join(line.split())[:120] for line in reversed(lines) if line.strip()), "")
        return SolverCrashed(
            f"{self.name} {self.version} crashed on an integer program ({how(code)}{': ' if last else ''}{last}); "
            "try threads=1, other solver_options or another solver"
        )


def how(code: int) -> str:
    """The way in which a process ended, from its return code."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"{name}, out of memory?" if -code == signal.SIGKILL else name


def _ended(process: subprocess.Popen[bytes], reading: int, said: IO[bytes]) -> None:
    process.kill()
    process.wait()
    assert process.stdin is not None
    process.stdin.close()
    os.close(reading)
    said.close()
