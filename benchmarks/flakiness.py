"""Tests of faults, servers, clusters and processes, many times on a busy machine: which of them fail now and then?

    python -m benchmarks.flakiness --times 20 --place <folder>

Every round runs `pytest -m faults` beside one process per core that does nothing but keep it busy. The report of each
round is kept in the folder: the same command goes on with the next. Prints the tests that failed in some round, and how
often. Exit code 0 where none did.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from flows.adapters.core_locks import cores

BUSY = "while True: pass"
FAILED = ("failure", "error")


def main(arguments: Sequence[str]) -> int:
    """Run the rounds that are missing, and print what failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flakiness", description=__doc__)
    parser.add_argument("--times", type=int, default=20, help="rounds")
    parser.add_argument("--place", type=Path, required=True, help="folder of the rounds' reports and logs; kept")
    parser.add_argument("--marks", default="faults", help="which tests, as for pytest -m")
    parser.add_argument("tests", nargs="*", default=[], help="files or tests, as for pytest; none: all")
    chosen = parser.parse_args(arguments)
    chosen.place.mkdir(parents=True, exist_ok=True)
    reports = [chosen.place.resolve() / f"{number:02}.xml" for number in range(chosen.times)]
    with _busy():
        for report in reports:
            if not report.exists():
                _round(report, chosen.marks, chosen.tests)
                print(f"{report.name}: {_summary(report)}", flush=True)
    print(*table(reports), sep="\n")
    return 0 if not any(_failed(report) for report in reports) else 1


def table(reports: Sequence[Path]) -> list[str]:
    """The tests that failed in some round, with how often they ran; and all together."""
    ran, failed, seconds = Counter[str](), Counter[str](), defaultdict[str, float](float)
    for report in reports:
        for name, spent, how in _cases(report):
            if how != "skipped":
                ran[name] += 1
                failed[name] += how in FAILED
                seconds[name] += spent
    lines = ["| test | rounds | failures | s, mean |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {ran[name]} | {failed[name]} | {seconds[name] / ran[name]:.0f} |" for name in sorted(+failed)
    ]
    of = f"{len(ran)} tests, {len(reports)} rounds"
    return [*lines, f"| {of} | {ran.total()} | {failed.total()} | {sum(seconds.values()) / max(1, ran.total()):.1f} |"]


@contextmanager
def _busy() -> Iterator[None]:
    """Processes that keep every core busy, for the block."""
    processes = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in cores()]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _round(report: Path, marks: str, tests: Sequence[str]) -> None:
    partial = report.with_suffix(".part")
    command = [sys.executable, "-m", "pytest", "-q", "-m", marks, "-p", "no:cacheprovider", f"--junitxml={partial}"]
    with report.with_suffix(".log").open("w") as log:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([*command, *tests], stdout=log, stderr=subprocess.STDOUT, env=environment, check=False)
    # Only a round that came to its end counts.
    if not partial.exists():
        sys.exit(f"pytest did not come to its end: see {report.with_suffix('.log')}")
    partial.rename(report)


def _cases(report: Path) -> Iterator[tuple[str, float, str]]:
    """Each test's name, its seconds, and how it ended: by a word of the report, empty where it passed."""
    for case in ElementTree.parse(report).iter("testcase"):
        how = next((each.tag for each in case if each.tag in (*FAILED, "skipped")), "")
        yield f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}", float(case.get("time", 0)), how


def _failed(report: Path) -> list[str]:
    return [name for name, _, how in _cases(report) if how in FAILED]


def _summary(report: Path) -> str:
    failed, cases = _failed(report), list(_cases(report))
    return f"{len(cases)} tests, {len(failed)} failed {', '.join(failed)}".strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
