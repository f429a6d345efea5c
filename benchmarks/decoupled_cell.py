"""One network scored by block or as a whole, in a process of its own, so that its peak memory is its own.

    python -m benchmarks.decoupled_cell <cell as JSON>

Prints what it measured as one line of JSON. CPU seconds are user + system of the whole process, all programs one after
the other: what each of several workers does is the same work.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

import formulation
import training
from benchmarks.decoupled_networks import Prepared
from benchmarks.scoring_cell import import_what_the_first_call_imports, peak_bytes
from flows.adapters.aggregation import AggregatedScores, aggregate_sets
from flows.adapters.programs import ProgramInputs, ProgramSpec, block_instance, blocks_of, programs_of, whole_instance
from flows.config.settings import Settings
from formulation import Round, Solution

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
BLOCKS, WHOLE, LOWERING = "by block", "whole", "lowering"
WORDS = {"loss_weight": 5.0, "gap": 1e-3, "layer_weight": "total", "radius": 0.0, "time_limit": 3600.0, "threads": 1}


@dataclass(frozen=True)
class Cell:
    """A trained network by its files; how many images, and how it is scored: by block, as a whole, or only lowered."""

    prepared: Prepared
    title: str
    images: int
    gate: str
    how: str = BLOCKS
    head_units: str = "held"

    def __str__(self) -> str:
        units = f", head units {self.head_units}" if self.how == BLOCKS else ""
        return f"{self.title}, {self.images} images, `{self.gate}`, {self.how}{units}"

    @property
    def settings(self) -> Settings:
        """The settings of a flow that scores so."""
        how = {"blocks": "auto" if self.how == BLOCKS else "whole", "head_units": self.head_units, "gate": self.gate}
        return Settings.model_validate(WORDS | how)


def run(cell: Cell) -> dict[str, Any]:
    """Measure a cell in a fresh process; empty where it failed."""
    print(cell, file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks.decoupled_cell", json.dumps(asdict(cell))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, env=os.environ | ONE_THREAD)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1]) if done.returncode == 0 else {}
    said = f"{found['cpu']:.1f} CPU seconds, {found['peak'] / 1e6:.0f} MB" if found else "failed"
    print(f"{cell}: {said}", file=sys.stderr, flush=True)
    return found


def measure(cell: Cell) -> dict[str, Any]:
    """Score the cell once: certificates, scores and importance of all programs, and what they took."""
    network, images, labels = cell.prepared.load(cell.images)
    import_what_the_first_call_imports()
    baseline, started = peak_bytes(), time.process_time()
    if cell.how == LOWERING:
        formulation.lower(network, images)
        return {"cpu": time.process_time() - started, "baseline": baseline, "peak": peak_bytes()}
    programs, solved = [], []
    for program, instance in _instances(cell, network, images, labels):
        begun = time.process_time()
        solution = formulation.score(
            instance.network, instance.images, instance.labels, instance.settings, progress=_report
        )
        programs.append(_told(program, solution, time.process_time() - begun))
        print(f"  {programs[-1]}", file=sys.stderr, flush=True)
        solved.append((program, solution))
    found = aggregate_sets(sorted(solved, key=lambda each: each[0].place))
    return {
        "cpu": time.process_time() - started,
        "baseline": baseline,
        "peak": peak_bytes(),
        "programs": programs,
        **_values(found),
    }


def _instances(
    cell: Cell, network: nn.Module, images: Tensor, labels: Tensor
) -> Iterator[tuple[ProgramSpec, ProgramInputs]]:
    """The programs in the order of a flow: those that take longest first."""
    settings = cell.settings
    if cell.how == WHOLE:
        yield ProgramSpec(1), whole_instance(settings, network, images, labels)
        return
    classes = int(labels.max()) + 1
    units = formulation.outline(network, images).units
    blocks = blocks_of(settings, network, images)
    heads = cell.prepared.heads(blocks, classes)
    read = training.represent(blocks, images)
    for program in programs_of(settings, 1, classes, blocks, units):
        yield program, block_instance(settings, blocks, heads, program.block, read[program.block], labels)


def _told(program: ProgramSpec, solution: Solution, seconds: float) -> dict[str, Any]:
    told = solution.certificate.to_dict()
    names = ("status", "checked", "gap", "rounds", "columns", "rows", "unstable", "objective")
    return {"block": program.block, "cpu": seconds} | {name: told[name] for name in names}


def _values(found: AggregatedScores) -> dict[str, dict[str, list[float]]]:
    both = {"scores": found.scores, "importance": found.importance}
    return {name: {layer: values.tolist() for layer, values in each.items()} for name, each in both.items()}


def _report(done: Round) -> None:
    words = f"round {done.index}: bound {done.bound:.6f}, objective {done.objective:.6f}, gap {done.gap:.1e}"
    print(f"    {words}, {done.seconds:.1f} s", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """Measure the cell and print the result."""
    torch.set_num_threads(1)
    values = json.loads(arguments[0])
    print(json.dumps(measure(Cell(**values | {"prepared": Prepared(**values["prepared"])}))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
