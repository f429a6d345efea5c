"""One interrupted command: a flow that is struck at a moment, and what the same command then comes to.

A flow runs in a session of its own, forked from a process that has imported what takes seconds, with the Prefect server
that the caller has set. What it comes to is compared with an undisturbed run of the same command: every run's status,
metrics with their steps and how often each was logged, params, tags (with them the digests of contents) and names of
artifacts, and all scores and masks bit by bit.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
from mlflow import MlflowClient
from prefect.settings import PREFECT_API_URL

from tests.flows.resume.killed import Trouble, start
from tests.flows.resume.snapshot import Seen, differences, snapshot

ENDED = 60.0  # seconds in which a command that was told to stop has to end
LONGEST = 600.0  # seconds of a command
POLL = 0.02  # seconds between two looks at a log
PAUSE = 3.0  # seconds between SIGSTOP and SIGCONT
BETWEEN = 0.3  # seconds between two Ctrl-C
LEFT = 20.0  # seconds in which the processes of a flow that was killed have to be gone
OTHERWISE = ("experiment", "tracking_uri", "cache", "run_id", "dask_address")  # params in which two trials differ
PARENT = "mlflow.parentRunId"
STOPPED = {signal.SIGKILL: (-signal.SIGKILL,), signal.SIGINT: (130,), signal.SIGTERM: (130, -signal.SIGTERM)}


@dataclass(frozen=True)
class Command:
    """A flow with its words, the store it writes to, and the folder of its log, its counts and its finished work.

    Attributes:
        server: the Prefect server's address; empty: as the caller has set it.
    """

    flow: str
    words: Mapping[str, str]
    store: str
    experiment: str
    place: Path
    server: str = ""


@dataclass(frozen=True)
class Struck:
    """What became of one command.

    Attributes:
        moment: seconds from its start after which it was struck.
        code: its exit code, minus the number of a signal; 0 where it went on by itself.
        last: the last line of its log before it was struck.
        faults: whatever is not as it has to be; empty: all is.
        resumed: seconds of the same command afterwards.
    """

    moment: float
    code: int | None
    last: str
    faults: tuple[str, ...]
    resumed: float

    def as_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def kill(process: BaseProcess) -> None:
    """`kill -9` of the flow's process alone."""
    _send(process, signal.SIGKILL)


def interrupt_twice(process: BaseProcess) -> None:
    """Ctrl-C twice, as a terminal sends it to all processes of the flow."""
    _send_all(process, signal.SIGINT)
    time.sleep(BETWEEN)
    _send_all(process, signal.SIGINT)


def terminate(process: BaseProcess) -> None:
    """SIGTERM to the flow's process."""
    _send(process, signal.SIGTERM)


def pause(process: BaseProcess) -> None:
    """Stop all processes of the flow for some seconds, and let them go on."""
    _send_all(process, signal.SIGSTOP)
    time.sleep(PAUSE)
    _send_all(process, signal.SIGCONT)


STRIKES: Mapping[str, tuple[Callable[[BaseProcess], None], signal.Signals | None]] = {
    "kill -9": (kill, signal.SIGKILL),
    "Ctrl-C twice": (interrupt_twice, signal.SIGINT),
    "SIGTERM": (terminate, signal.SIGTERM),
    "SIGSTOP, SIGCONT": (pause, None),
}


@dataclass(frozen=True)
class Span:
    """The seconds of an undisturbed command, and those until its first line: until it has prepared, and works."""

    seconds: float
    prepared: float

    def drawn(self, draw: random.Random, *, working: bool) -> float:
        """A moment, drawn evenly from all seconds, or from those since the first line."""
        return draw.uniform(0.0, self.seconds - self.prepared if working else self.seconds)


def undisturbed(command: Command) -> Span:
    """Run a command to its end; how long it took."""
    begin = time.monotonic()
    process = begun(command)
    _wait_for_first_line(process, command)
    prepared = time.monotonic() - begin
    process.join(LONGEST)
    assert process.exitcode == 0, log_of(command)[-2000:]
    return Span(time.monotonic() - begin, prepared)


def wait(process: BaseProcess, command: Command, moment: float, *, working: bool) -> None:
    """Wait so many seconds, or since the first line of the command's log; not beyond its end."""
    if working:
        _wait_for_first_line(process, command)
    process.join(moment)


def _wait_for_first_line(process: BaseProcess, command: Command) -> None:
    end = time.monotonic() + LONGEST
    while process.exitcode is None and not _has_begun(command) and time.monotonic() < end:
        time.sleep(POLL)


def _has_begun(command: Command) -> bool:
    """Whether the log has a first line of the flow's own, after the one that the process begins with."""
    return len(log_of(command).splitlines()) > 1


def struck(
    command: Command, strike: str, moment: float, expected: Mapping[str, Seen], *, working: bool
) -> Struck | None:
    """Strike a command at a moment as `wait` has it, and go on with the same; None where it had ended before."""
    act, stops = STRIKES[strike]
    process = begun(command)
    wait(process, command, moment, working=working)
    if process.exitcode is not None:
        assert process.exitcode == 0, log_of(command)[-2000:]
        return None
    last = (log_of(command).splitlines() or [""])[-1]
    act(process)
    process.join(ENDED if stops else LONGEST)
    code, faults = process.exitcode, list(_left(process))
    process.kill()
    if code not in (STOPPED[stops] if stops else (0,)):
        faults.append(f"exit code {code}: {log_of(command)[-500:]}")
    if stops in (signal.SIGINT, signal.SIGTERM):
        faults += _still_open(command)
    begin = time.monotonic()
    # One that was struck on its way out has told everything: the same command would begin a second run.
    if stops and not is_told(command):
        again = begun(command)
        again.join(LONGEST)
        if again.exitcode != 0:
            faults.append(f"the same command ended with {again.exitcode}: {log_of(command)[-1000:]}")
        again.kill()
    resumed = time.monotonic() - begin
    if not faults:
        apart = differences(dict(expected), outcome(command))
        faults += [f"{where}: {what}" for where, what in apart.items()]
    return Struck(moment, code, last, tuple(faults), resumed)


def outcome(command: Command) -> dict[str, Seen]:
    """What a command has left in its experiment, without what differs between two trials of the same."""
    found = snapshot(command.store, command.experiment)
    return {
        way: replace(seen, params={name: value for name, value in seen.params.items() if name not in OTHERWISE})
        for way, seen in found.items()
    }


def is_told(command: Command) -> bool:
    """Whether the command's run on top, and with it all below, is FINISHED in the store."""
    if not _has_begun(command):
        # Its store may be half made, and would be made whole by a look at it.
        return False
    client = MlflowClient(command.store)
    experiment = client.get_experiment_by_name(command.experiment)
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    return any(run.info.status == "FINISHED" and PARENT not in run.data.tags for run in runs)


def begun(command: Command) -> BaseProcess:
    """A command's process, started."""
    command.place.mkdir(parents=True, exist_ok=True)
    words = dict(command.words) | {"tracking_uri": command.store, "experiment": command.experiment}
    environment = {
        "PREFECT_API_URL": command.server or PREFECT_API_URL.value() or "",
        "OMP_NUM_THREADS": "1",
        "CRITICAL_NEURONS_CACHE": str(command.place / "cache"),
    }
    given = [word for name, value in words.items() for word in (f"--{name}", value)]
    return start(Trouble(), command.place, [command.flow, *given], environment)


def log_of(command: Command) -> str:
    """What a command has written so far."""
    log = command.place / "log"
    return log.read_text() if log.exists() else ""


def _send(process: BaseProcess, number: signal.Signals) -> None:
    assert process.pid is not None
    with suppress(ProcessLookupError):
        os.kill(process.pid, number)


def _send_all(process: BaseProcess, number: signal.Signals) -> None:
    assert process.pid is not None
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _left(process: BaseProcess) -> Sequence[str]:
    """The processes of the flow that are still there some seconds after it; they are killed."""
    assert process.pid is not None
    end = time.monotonic() + LEFT
    while left := [each for each in _session(process.pid) if each.pid != process.pid]:
        if time.monotonic() > end:
            for each in left:
                with suppress(psutil.NoSuchProcess):
                    each.kill()
            return [f"{len(left)} processes went on"]
        time.sleep(0.2)
    return []


def _session(number: int) -> list[psutil.Process]:
    """The processes of a session that run."""
    found = []
    for each in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getsid(each.pid) == number and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
    return found


def _still_open(command: Command) -> list[str]:
    client = MlflowClient(command.store)
    experiment = client.get_experiment_by_name(command.experiment)
    runs = client.search_runs([experiment.experiment_id]) if experiment else []
    return [f"{run.info.run_name} is left RUNNING" for run in runs if run.info.status == "RUNNING"]
