"""Interruptions at seeded random moments: does the same command then come to what an undisturbed one comes to?

    python -m benchmarks.kills --place <folder>

FC-3 on scikit-learn's digits. `main` is killed by `kill -9` at twenty moments, `score` with its programs solved in
other processes at ten; `main` is stopped by Ctrl-C twice, by SIGTERM, and held by SIGSTOP until SIGCONT, at five each.
Each command has an experiment and a cache of its own; `first` is `main` with a store of its own too, which it makes
itself. `--small` has FC-2, one epoch and no export instead. A moment is drawn evenly from the seconds of the
undisturbed command, every second one from those since its first line. Results are kept in the folder, line by line: the
same command goes on where it was left. Exit code 0 where all hold.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.testing.utilities import prefect_test_harness

from benchmarks.flow_commands import FORMER_DEFAULTS
from benchmarks.kill_cell import Command, Span, log_of, outcome, struck, undisturbed
from tests.flows.resume.snapshot import Seen

SMALL = {**FORMER_DEFAULTS, "model": "fc3", "epochs": "4", "images_per_class": "1", "draws": "2", "threshold": "0.2"}
SMALLER = SMALL | {"model": "fc2", "epochs": "1", "draws": "1", "export": "none"}
MAIN = {"scoring_sets": "2"}
PROGRAM = {name: FORMER_DEFAULTS[name] for name in ("gate", "loss_weight")}
SCORE = {**PROGRAM, "scoring_sets": "6", "images_per_class": "1", "task_runner": "processes", "workers": "2"}
SERVER = 240  # seconds in which the Prefect server has to start
TRIES = 20  # moments drawn until one falls before the command's end


@dataclass(frozen=True)
class Kind:
    """A flow, what befalls it, and how often."""

    flow: str
    strike: str
    times: int


KINDS = {
    "main": Kind("main", "kill -9", 20),
    "first": Kind("main", "kill -9", 5),
    "score": Kind("score", "kill -9", 10),
    "interrupted": Kind("main", "Ctrl-C twice", 5),
    "terminated": Kind("main", "SIGTERM", 5),
    "held": Kind("main", "SIGSTOP, SIGCONT", 5),
}
HEAD = (
    "| flow | what befalls it | moments | as undisturbed | s undisturbed | s to go on, mean |",
    "|---|---|---|---|---|---|",
)


def main(arguments: Sequence[str]) -> int:
    """Strike, go on, compare, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__)
    parser.add_argument("--place", type=Path, required=True, help="folder of stores, logs and results; kept")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"which of {', '.join(KINDS)}")
    parser.add_argument("--times", type=int, default=0, help="moments of each kind; 0: as many as the table asks for")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    parser.add_argument("--small", action="store_true", help="a smaller network, trained for less")
    chosen = parser.parse_args(arguments)
    kinds = [name for name in KINDS if name in chosen.kinds.split(",")]
    place, job = chosen.place.resolve() / ("small" if chosen.small else ""), SMALLER if chosen.small else SMALL
    place.mkdir(parents=True, exist_ok=True)
    with prefect_test_harness(server_startup_timeout=SERVER):
        found = {name: strike_often(place, name, chosen.times, chosen.seed, job) for name in kinds}
    print(*HEAD, *(row(name, each) for name, each in found.items()), sep="\n")
    return 0 if all(not each["faults"] for several in found.values() for each in several) else 1


def strike_often(place: Path, name: str, times: int, seed: int, job: Mapping[str, str] = SMALL) -> list[dict[str, Any]]:
    """The results of one kind, those that are kept already and those that were missing."""
    kind, results = KINDS[name], place / f"{name}-{seed}.jsonl"
    kept = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    wanted = times or kind.times
    if len(kept) >= wanted:
        return kept[:wanted]
    store, trained = _prepared(place / name, job)
    words = SCORE | {"run_id": trained} if kind.flow == "score" else {**job, **MAIN}

    def command(title: str) -> Command:
        own = place / name / title
        return Command(kind.flow, words, f"sqlite:///{own / 'mlflow.db'}" if name == "first" else store, title, own)

    alone = command("undisturbed")
    span = undisturbed(alone)
    expected = outcome(alone)
    for number in range(len(kept), wanted):
        draw = random.Random(f"{seed} {name} {number}")
        # Every second one not before the command works: half of it may be preparation.
        working = number % 2 == 1
        found = _struck(command, f"{seed}-{number:02}", kind.strike, draw, span, expected, working=working)
        kept.append({"number": number, "undisturbed": span.seconds, "working": working} | found)
        with results.open("a") as file:
            file.write(f"{json.dumps(kept[-1])}\n")
        print(json.dumps({"kind": name} | kept[-1]), flush=True)
    return kept


def row(name: str, results: Sequence[Mapping[str, Any]]) -> str:
    """The table's line for the results of one kind."""
    kind, held = KINDS[name], sum(not each["faults"] for each in results)
    alone = results[0]["undisturbed"]
    again = sum(each["resumed"] for each in results) / len(results)
    words = f"`{kind.flow}`" + (", `task_runner=processes`" if kind.flow == "score" else "")
    return f"| {words} | {kind.strike} | {len(results)} | {held} of {len(results)} | {alone:.0f} | {again:.0f} |"


def _struck(
    command: Callable[[str], Command],
    title: str,
    strike: str,
    draw: random.Random,
    span: Span,
    expected: Mapping[str, Seen],
    *,
    working: bool,
) -> dict[str, Any]:
    for attempt in range(TRIES):
        # Where the machine is faster now, the moment may fall behind the end: another is drawn for a new command.
        moment = span.drawn(draw, working=working)
        if found := struck(command(f"{title}-{attempt}"), strike, moment, expected, working=working):
            return found.as_json()
    raise AssertionError(f"{title}: {TRIES} moments of {span.seconds:.0f} s fell behind the end")


def _prepared(place: Path, job: Mapping[str, str]) -> tuple[str, str]:
    """A store with a trained network, and its run; all else in the folder is removed.

    It also waits for the process that others are forked from.
    """
    if place.exists():
        shutil.rmtree(place)
    store = f"sqlite:///{place / 'prepared' / 'mlflow.db'}"
    training = Command("train", {name: job[name] for name in ("model", "epochs")}, store, "train", place / "prepared")
    undisturbed(training)
    return store, log_of(training).rpartition("done     run ")[2].split()[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
