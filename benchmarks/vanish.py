"""Services that vanish at seeded random moments: is that one line, and does the same command then go on?

    python -m benchmarks.vanish --place <folder>

FC-2 on scikit-learn's digits, scored on a Dask cluster where that is what vanishes. While `main` is at work, the
Prefect server, the MLflow server, PostgreSQL (as the store itself, and behind an MLflow server), the Dask scheduler or
its only worker is killed, at a moment drawn as by `benchmarks.kills`. The command has to end with code 2 and one line,
or to come to its end without the service; with the service back, the same command has to come to what an undisturbed
one comes to. Results are kept in the folder, line by line: the same command goes on where it was left. Exit code 0
where all hold.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from prefect.testing.utilities import prefect_test_harness

from benchmarks.flow_commands import FORMER_DEFAULTS
from benchmarks.kill_cell import Command, Span, begun, is_told, log_of, outcome, undisturbed, wait
from tests.flows.backends.servers import PostgreSQL, PrefectServer, TrackingServer
from tests.flows.execution.runners.clusters import Cluster
from tests.flows.resume.snapshot import Seen, differences
from tests.flows.small_run import store_in

WORDS = {
    **FORMER_DEFAULTS,
    **{"model": "fc2", "epochs": "2", "images_per_class": "1", "scoring_sets": "2", "draws": "2", "export": "none"},
}
DASK = {"task_runner": "dask", "workers": "1"}
SERVER = 240  # seconds in which a Prefect server has to start
LONGEST = 300.0  # seconds in which a command has to end
TRIES = 20  # moments drawn until one falls before the command's end
ALONE: dict[str, tuple[Span, dict[str, Seen]]] = {}
HEAD = (
    "| what vanishes | moments | as asked for | one line | came to its end | s until it ended, mean (most) |",
    "|---|---|---|---|---|---|",
)


@dataclass(frozen=True)
class Stage:
    """A command with the service that it needs: how that is killed, and how it comes back."""

    command: Command
    kill: Callable[[], None]
    restore: Callable[[], None]


@contextmanager
def _prefect(place: Path) -> Iterator[Stage]:
    server = PrefectServer(place / "prefect")
    try:
        server.start()
        command = Command("main", WORDS, store_in(place), "vanish", place, server.uri)
        yield Stage(command, server.kill, server.start)
    finally:
        server.kill()


@contextmanager
def _mlflow(place: Path) -> Iterator[Stage]:
    (place / "mlflow").mkdir()
    server = TrackingServer(place / "mlflow", store_in(place, "server.db"))
    try:
        server.start()
        yield Stage(Command("main", WORDS, server.uri, "vanish", place), server.kill, server.start)
    finally:
        server.kill()


@contextmanager
def _database(place: Path) -> Iterator[Stage]:
    # Not in the place: PostgreSQL's own user has to reach it.
    with TemporaryDirectory(prefix="postgresql") as folder:
        database = PostgreSQL(Path(folder))
        try:
            database.start()
            database.create()
            yield Stage(Command("main", WORDS, database.uri, "vanish", place), database.kill, database.start)
        finally:
            database.kill()


@contextmanager
def _database_behind(place: Path) -> Iterator[Stage]:
    (place / "mlflow").mkdir()
    with TemporaryDirectory(prefix="postgresql") as folder:
        database = PostgreSQL(Path(folder))
        server = TrackingServer(place / "mlflow", database.uri)
        try:
            database.start()
            database.create()
            server.start()
            yield Stage(Command("main", WORDS, server.uri, "vanish", place), database.kill, database.start)
        finally:
            server.kill()
            database.kill()


@contextmanager
def _scheduler(place: Path) -> Iterator[Stage]:
    with _cluster(place) as (cluster, command):

        def restore() -> None:
            cluster.close()
            cluster.scheduler()
            cluster.worker()

        yield Stage(command, lambda: cluster.kill(cluster.processes[0]), restore)


@contextmanager
def _worker(place: Path) -> Iterator[Stage]:
    with _cluster(place) as (cluster, command):
        yield Stage(command, lambda: cluster.kill(cluster.processes[1]), lambda: (cluster.worker(), None)[1])


@contextmanager
def _cluster(place: Path) -> Iterator[tuple[Cluster, Command]]:
    cluster = Cluster(place)
    try:
        cluster.scheduler()
        cluster.worker()
        words = WORDS | DASK | {"dask_address": cluster.address}
        yield cluster, Command("main", words, store_in(place), "vanish", place)
    finally:
        cluster.close()


STAGES = {
    "Prefect server": _prefect,
    "MLflow server": _mlflow,
    "PostgreSQL": _database,
    "PostgreSQL behind MLflow": _database_behind,
    "Dask scheduler": _scheduler,
    "Dask worker": _worker,
}


def main(arguments: Sequence[str]) -> int:
    """Kill services, go on, compare, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vanish", description=__doc__)
    parser.add_argument("--place", type=Path, required=True, help="folder of stores, logs and results; kept")
    parser.add_argument("--services", default=",".join(STAGES), help=f"which of {', '.join(STAGES)}")
    parser.add_argument("--times", type=int, default=5, help="moments for each")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    chosen = parser.parse_args(arguments)
    names = [name for name in STAGES if name in chosen.services.split(",")]
    chosen.place.mkdir(parents=True, exist_ok=True)
    with prefect_test_harness(server_startup_timeout=SERVER):
        found = {name: vanish_often(chosen.place.resolve(), name, chosen.times, chosen.seed) for name in names}
    print(*HEAD, *(row(name, each) for name, each in found.items()), sep="\n")
    return 0 if all(not each["faults"] for several in found.values() for each in several) else 1


def vanish_often(place: Path, name: str, times: int, seed: int) -> list[dict[str, Any]]:
    """The results of one service, those that are kept already and those that were missing."""
    word = name.replace(" ", "-")
    results = place / f"{word}-{seed}.jsonl"
    kept = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    if len(kept) >= times:
        return kept[:times]
    # The first command waits for the process that others are forked from.
    begun(Command("help", {}, "", "", place / "warm")).join()
    span, expected = _alone(name, place / word / "undisturbed")
    for number in range(len(kept), times):
        draw = random.Random(f"{seed} {name} {number}")
        # Every second one not before the command works: half of it may be preparation.
        working = number % 2 == 1
        found = _one(name, place / word / f"{seed}-{number:02}", draw, span, expected, working=working)
        kept.append({"number": number, "undisturbed": span.seconds, "working": working} | found)
        with results.open("a") as file:
            file.write(f"{json.dumps(kept[-1])}\n")
        print(json.dumps({"service": name} | kept[-1]), flush=True)
    return kept


def _alone(name: str, place: Path) -> tuple[Span, dict[str, Seen]]:
    """How long the undisturbed command takes, and what it comes to: measured once for each way of solving."""
    kind = "Dask" if name.startswith("Dask") else ""
    if kind not in ALONE:
        with STAGES[name](_emptied(place)) as stage:
            ALONE[kind] = undisturbed(stage.command), outcome(stage.command)
    return ALONE[kind]


def row(name: str, results: Sequence[Mapping[str, Any]]) -> str:
    """The table's line for the results of one service."""
    held = sum(not each["faults"] for each in results)
    lines = sum(each["code"] == 2 for each in results)
    ends = sum(each["code"] == 0 for each in results)
    spans = [each["seconds"] for each in results if each["code"] == 2] or [0.0]
    mean, most = sum(spans) / len(spans), max(spans)
    return f"| {name} | {len(results)} | {held} of {len(results)} | {lines} | {ends} | {mean:.0f} ({most:.0f}) |"


def _one(
    name: str, place: Path, draw: random.Random, span: Span, expected: Mapping[str, Seen], *, working: bool
) -> dict[str, Any]:
    for _ in range(TRIES):
        with STAGES[name](_emptied(place)) as stage:
            if found := _vanished(stage, span.drawn(draw, working=working), expected, working=working):
                return found
    raise AssertionError(f"{place}: {TRIES} moments of {span.seconds:.0f} s fell behind the end")


def _vanished(stage: Stage, moment: float, expected: Mapping[str, Seen], *, working: bool) -> dict[str, Any] | None:
    """Kill the service at a moment as `wait` has it, bring it back, go on; None where the command had ended before."""
    process = begun(stage.command)
    wait(process, stage.command, moment, working=working)
    if process.exitcode is not None:
        assert process.exitcode == 0, log_of(stage.command)[-2000:]
        return None
    before = log_of(stage.command)
    stage.kill()
    code, spent = _ended(process)
    log = log_of(stage.command)
    lines = [line for line in log.splitlines() if line.startswith("error: ")]
    faults = []
    if code not in (0, 2) or len(lines) != (1 if code == 2 else 0) or "Traceback" in log:
        faults.append(f"exit code {code}, {len(lines)} lines of error: {log[-2000:]}")
    stage.restore()
    # One whose service went on its way out has told everything: the same command would begin a second run.
    again = 0 if is_told(stage.command) else _ended(begun(stage.command))[0]
    if again != 0:
        faults.append(f"the same command ended with {again}: {log_of(stage.command)[-1000:]}")
    if not faults:
        apart = differences(dict(expected), outcome(stage.command))
        faults += [f"{where}: {what}" for where, what in apart.items()]
    return {
        "moment": moment,
        "code": code,
        "seconds": spent,
        "last": (before.splitlines() or [""])[-1],
        "said": lines,
        "faults": faults,
    }


def _ended(process: BaseProcess) -> tuple[int | None, float]:
    """The exit code of a process, and the seconds until it ended; None where it did not in time."""
    begin = time.monotonic()
    process.join(LONGEST)
    code = process.exitcode
    process.kill()
    return code, time.monotonic() - begin


def _emptied(place: Path) -> Path:
    if place.exists():
        shutil.rmtree(place)
    place.mkdir(parents=True)
    return place


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
