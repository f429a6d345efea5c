"""Speed benchmark: what starting, testing, scoring and tracking take, each beside its goal.

    DATA_ROOT=<folder with the images> python -m benchmarks.speed [--only imports,scoring] [--without machine]

A row a line, by its own name or that of its group; what a row measured is kept in --place, by seed, colour images and
the two folders, and the same command goes on where it was left. CPU seconds are user + system; scoring is on one
thread, in a process for each cell, from the lowered network to the checked solution. The groups: imports, start,
scoring, conic, refit, blocks, tracking; and machine, which takes the whole machine for minutes: `mlflow run` and the
two suites.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import SubprocessError
from typing import Any

from benchmarks import speed_rows
from benchmarks.scoring import CACHE
from benchmarks.speed_rows import LARGEST, Found, Place

GROUPS = ("imports", "start", "scoring", "conic", "refit", "blocks", "tracking", "machine")
NETWORKS = {"golden fc3": "FC-3 (golden)", "fc3": "FC-3", "fc4": "FC-4", "lenet5": "LeNet-5"}
HEAD = "| figure | measured | goal | met |\n|---|---|---|---|"
MOST_RATIO, MOST_SLOPE = 4.0, 0.9
Figures = Iterator[tuple[str, str, str, bool]]


@dataclass(frozen=True)
class Row:
    """A measurement of a group by its name; `figures`: what of it is shown, as figure, measured, goal and met."""

    name: str
    group: str
    measure: Callable[[Place], Found]
    figures: Callable[[Found], Figures]


@dataclass(frozen=True)
class Scored:
    """A scoring cell with its goals: CPU seconds, and bytes."""

    model: str
    images: int
    gate: str
    gap: float
    seconds: float = math.inf
    peak: float = math.inf

    @property
    def name(self) -> str:
        """The row's name."""
        return f"{self.model.replace(' ', '-')}-{self.images}-{self.gate}"

    @property
    def title(self) -> str:
        """The row's first column."""
        return f"{NETWORKS[self.model]}, {self.images:,} images, `{self.gate}`, gap {self.gap:g}"

    def measure(self, place: Place) -> Found:
        """The cell's CPU seconds, those inside the solver, its gap, rounds and peak."""
        return speed_rows.scored(place, self.model, self.images, self.gate, self.gap)

    def figures(self, found: Found) -> Figures:
        """The cell's line."""
        goals = [f"<= {self.seconds:g} CPU s"] if math.isfinite(self.seconds) else ["the gap"]
        goals += [f"<= {self.peak / 1e9:g} GB"] if math.isfinite(self.peak) else []
        said = (
            f"{found['whole']:.2f} CPU s, {found['in_solver']:.2f} in the solver (ratio {ratio(found):.1f}), "
            f"{found['rounds']:.0f} rounds, gap {found['gap']:.1e}, {found['peak'] / 1e9:.2f} GB"
        )
        met = found["whole"] <= self.seconds and found["peak"] <= self.peak and found["gap"] <= self.gap
        yield self.title, said, ", ".join(goals), met


CELLS = (
    Scored("golden fc3", 10, "published", 1e-4, 0.5),
    Scored("fc4", 10, "published", 1e-4, 0.5),
    Scored("lenet5", 1000, "linear", 1e-3, 1.5),
    Scored("fc3", 1000, "linear", 1e-3),
    Scored("lenet5", LARGEST, "linear", 1e-3, 15.0, 2e9),
    Scored("fc3", LARGEST, "linear", 1e-3, 15.0, 2e9),
    Scored("lenet5", 1000, "pattern", 1e-3, 4.0),
    Scored("fc3", 1000, "pattern", 1e-3, 4.0),
)


def ratio(found: Found) -> float:
    """CPU of the call over CPU inside the solver."""
    return found["whole"] / max(found["in_solver"], 1e-9)


def _most(what: Mapping[str, tuple[str, float, str]]) -> Callable[[Found], Figures]:
    """Figures that must not pass a value: the name of the value, by what it is of, the most and the unit."""

    def figures(found: Found) -> Figures:
        failed = found.get("code", 0.0) != 0.0
        for figure, (name, most, unit) in what.items():
            said = f"{found[name]:.2f} {unit}{', and it failed' if failed else ''}"
            yield figure, said, f"<= {most:g} {unit}", found[name] <= most and not failed

    return figures


def _conic(found: Found) -> Figures:
    times = found["theirs"] / found["ours"]
    said = f"{times:.0f} times ({found['ours']:.2f} against {found['theirs']:.1f} CPU s, {found['apart']:.0e} apart)"
    yield "the free conic program of `benchmarks.conic` over ours, one run", said, ">= 50 times", times >= 50


def _blocks(found: Found) -> Figures:
    said = f"{found['cpu']:.0f} CPU s, {found['peak'] / 1e9:.2f} GB"
    met = found["cpu"] <= 180 and found["peak"] <= 4e9
    yield "VGG-16, full width by block, 100 images, `linear`", said, "<= 180 CPU s, <= 4 GB", met


def _refit(title: str, seconds: float, peak: float = math.inf) -> Callable[[Found], Figures]:
    def figures(found: Found) -> Figures:
        goals = [f"<= {seconds:g} CPU s"] if math.isfinite(seconds) else ["-"]
        goals += [f"<= {peak / 1e9:g} GB"] if math.isfinite(peak) else []
        said = f"{found['refit']:.2f} CPU s, {found['peak'] / 1e9:.2f} GB"
        yield f"refit of {title}", said, ", ".join(goals), found["refit"] <= seconds and found["peak"] <= peak

    return figures


def _tracking(found: Found) -> Figures:
    more = found["tracked"] - found["plain"]
    said = f"{more:.2f} CPU s ({found['tracked']:.2f} tracked, {found['plain']:.2f} as plain calls)"
    yield "tracking and orchestration over plain calls, a main job", said, "<= 2 CPU s", more <= 2.0


ROWS = (
    Row("imports", "imports", speed_rows.imports, _most({
        "`import formulation` beyond torch": ("formulation", 0.5, "CPU s"),
        "`import training` beyond torch and it": ("training", 1.0, "CPU s"),
    })),
    Row("first-line", "start", speed_rows.first_line, _most({
        "first line of `python -m flows main`, on the clock": ("wall", 1.0, "s"),
        "CPU until that line": ("cpu", 1.0, "CPU s"),
    })),
    *(Row(cell.name, "scoring", cell.measure, cell.figures) for cell in CELLS),
    Row("conic", "conic", speed_rows.conic, _conic),
    Row("refit-lenet5", "refit", lambda _: speed_rows.refitted("lenet5", 1000), _refit("LeNet-5, 1,000 images", 2.0)),
    Row("refit-resnet20", "refit", lambda _: speed_rows.refitted("resnet20", 1000),
        _refit("ResNet-20, 1,000 images", math.inf)),
    Row("refit-vgg16", "refit", lambda _: speed_rows.refitted("vgg16", 1000),
        _refit("VGG-16, full width, 1,000 images", 180.0, 4e9)),
    Row("blocks", "blocks", speed_rows.blocks, _blocks),
    Row("tracking", "tracking", speed_rows.tracked, _tracking),
    Row("mlflow-run", "machine", speed_rows.project_run, _most({
        "`mlflow run . --env-manager uv`, environment there": ("wall", 30.0, "s")})),
    Row("quick-suite", "machine", lambda _: speed_rows.suite("quick"), _most({"quick suite": ("cpu", 300.0, "CPU s")})),
    Row("whole-suite", "machine", lambda _: speed_rows.suite("all"), _most({"whole suite": ("cpu", 1200.0, "CPU s")})),
)  # fmt: skip

KNOWN = tuple(dict.fromkeys((*GROUPS, *(row.name for row in ROWS))))


def summaries(kept: Mapping[str, Found]) -> Figures:
    """What is asked of several scoring rows together."""
    scored = {cell: kept[cell.name] for cell in CELLS if cell.name in kept}
    for cell, found in scored.items():
        first = next((few for few in scored if few.images == 1000 and _same(few, cell)), None)
        if cell.images == LARGEST and first is not None:
            slope = math.log(found["whole"] / scored[first]["whole"]) / math.log(cell.images / first.images)
            what = f"growth from 1,000 to {LARGEST:,} images, log-log: {NETWORKS[cell.model]}, `{cell.gate}`"
            yield what, f"{slope:.2f}", f"<= {MOST_SLOPE}", slope <= MOST_SLOPE
    if scored:
        most = max(scored, key=lambda cell: ratio(scored[cell]))
        what = f"CPU of the call over CPU in the solver, highest: {most.title}"
        yield what, f"{ratio(scored[most]):.1f}", f"<= {MOST_RATIO:g}", ratio(scored[most]) <= MOST_RATIO


def _same(one: Scored, other: Scored) -> bool:
    return (one.model, one.gate, one.gap) == (other.model, other.gate, other.gap)


def main(arguments: Sequence[str]) -> int:
    """Measure what is missing, print the table; 1 where a row failed."""
    chosen = _parse(arguments)
    rows = [row for row in ROWS if _names(row) & set(chosen.only) and not _names(row) & set(chosen.without)]
    file = chosen.place / "speed.json"
    kept: dict[str, Found] = json.loads(file.read_text()) if file.exists() else {}
    root = Path(chosen.data_root or os.environ.get("DATA_ROOT") or CACHE / "data").expanduser()
    place = Place(root.resolve(), chosen.cache.expanduser().resolve(), chosen.colour, chosen.seed)
    keys = {row.name: kept_as(row.name, place) for row in rows}
    failed = False
    chosen.place.mkdir(parents=True, exist_ok=True)
    for row in rows:
        if keys[row.name] in kept and not chosen.again:
            continue
        print(f"{row.name} ...", file=sys.stderr, flush=True)
        try:
            kept[keys[row.name]] = row.measure(place)
        except (OSError, ValueError, SubprocessError) as error:
            print(f"{row.name}: failed ({type(error).__name__}: {error})", file=sys.stderr, flush=True)
            failed = True
            continue
        file.write_text(json.dumps(kept, indent=1))
    print(HEAD)
    shown = {name: kept[key] for name, key in keys.items() if key in kept}
    lines = [line for row in rows if row.name in shown for line in row.figures(shown[row.name])]
    for *texts, met in [*lines, *summaries(shown)]:
        print(f"| {' | '.join(texts)} | {'yes' if met else '**no**'} |")
    return 1 if failed else 0


def kept_as(name: str, place: Place) -> str:
    """What a row's figures are kept under: its name, and what it was measured on."""
    return f"{name}, seed {place.seed}, {place.colour}, data in {place.root}, networks in {place.cache}"


def _parse(arguments: Sequence[str]) -> Any:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    words = partial(_words, parser)
    parser.add_argument("--only", type=words, default=list(GROUPS), help=f"which of {', '.join(KNOWN)}")
    parser.add_argument("--without", type=words, default=[], help="what of it is left out")
    parser.add_argument("--again", action="store_true", help="measure anew what is kept")
    parser.add_argument("--place", type=Path, default=CACHE / "speed", help="folder of what was measured")
    parser.add_argument("--cache", type=Path, default=CACHE / "benchmarks", help="folder of the trained networks")
    parser.add_argument("--data_root", default="", help="folder of the data sets; empty: $DATA_ROOT, else in ~/.cache")
    parser.add_argument("--colour", default="cifar10", help="colour images for VGG-16: a data set, or folder:<path>")
    parser.add_argument("--seed", type=int, default=0, help="seed of split, initial weights, batches and draws")
    return parser.parse_args(arguments)


def _names(row: Row) -> set[str]:
    return {row.group, row.name}


def _words(parser: argparse.ArgumentParser, given: str) -> list[str]:
    found = [word for word in given.split(",") if word]
    if not found or not set(found) <= set(KNOWN):
        parser.error(f"'{given}': use some of {', '.join(KNOWN)}")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
