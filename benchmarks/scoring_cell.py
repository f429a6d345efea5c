"""One cell of `benchmarks.scoring` in a process of its own, so that its peak memory is its own.

    python -m benchmarks.scoring_cell <cell as JSON>

Prints what it measured as one line of JSON.
"""

from __future__ import annotations

import importlib
import json
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import highspy
import numpy as np
import torch
from torch import nn

import formulation.scoring_data
from benchmarks.trained import Trained
from formulation import Round, ScoreSettings, lower, score
from formulation.scoring_data import checked_labels, flatten_images
from tests.formulation.test_golden import CERTIFIED, FC3, LENET5, instance, settings_at

GOLDEN = {"golden fc3": FC3, "golden lenet5": LENET5}
MISSING = "missing"


@dataclass(frozen=True)
class Cell:
    """What is scored: a golden instance, or a trained network by its files; and how.

    `settings` are those of `ScoreSettings` that differ from `loss_weight` 5; a golden instance has its own.
    """

    model: str
    dataset: str
    images: int
    gate: str
    gap: float
    settings: dict[str, Any] = field(default_factory=dict)
    weights: str = ""
    pictures: str = ""
    conic: bool = False

    def load(self) -> tuple[nn.Module, np.ndarray, np.ndarray]:
        """The network, its scoring images and their labels."""
        if self.model in GOLDEN:
            return instance(GOLDEN[self.model], self.images)
        return Trained(self.model, Path(self.weights), Path(self.pictures)).load(self.images)

    def score_settings(self) -> ScoreSettings:
        if self.model in GOLDEN:
            return settings_at(self.gap)
        radius = 0.0 if self.gate in ("pattern", "linear") else 1e-5
        # Settings of a cell come from JSON, which ScoreSettings checks itself.
        return ScoreSettings(loss_weight=5, radius=radius, gate=self.gate, gap=self.gap, **self.settings)  # type: ignore[arg-type]


@dataclass
class Clock:
    """CPU seconds (user + system, all threads) spent within calls of one function."""

    seconds: float = 0.0

    def timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.process_time() - started

        return call


@contextmanager
def measured(owner: Any, name: str) -> Iterator[Clock]:
    """Measure every call of `owner.name` meanwhile."""
    clock = Clock()
    with patch.object(owner, name, clock.timed(getattr(owner, name))):
        yield clock


def peak_bytes() -> int:
    """The largest resident memory of this process so far.

    `getrusage` counts from before `exec`, so a child would inherit its parent's peak: where the kernel keeps a mark of
    this process alone, that is read.
    """
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    if found:
        return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(cell: Cell) -> dict[str, Any]:
    """Score the cell once: its certificate and what the call took; `whole` leaves lowering out."""
    model, images, labels = cell.load()
    import_what_the_first_call_imports()
    baseline = peak_bytes()
    settings = cell.score_settings()
    wall, started = time.perf_counter(), time.process_time()
    with measured(formulation.scoring_data, "read_network") as lowering, measured(highspy.Highs, "run") as solver:
        certificate = score(model, images, labels, settings, progress=_report).certificate
    took = time.process_time() - started
    return certificate.to_dict() | {
        "whole": took - lowering.seconds,
        "lowering": lowering.seconds,
        "in_solver": solver.seconds,
        "wall": time.perf_counter() - wall,
        "baseline": baseline,
        "peak": peak_bytes(),
    }


def import_what_the_first_call_imports() -> None:
    """Score two images of two units: xarray and others import lazily, and imports are not what is measured."""
    tiny = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)).eval()
    score(tiny, np.eye(2), np.arange(2), ScoreSettings(gate="pattern", radius=0))


def measure_conic(cell: Cell) -> dict[str, Any]:
    """Solve the cell's program unreduced by a conic solver."""
    try:
        conic = importlib.import_module("benchmarks.conic")
    except ImportError as error:
        return {MISSING: str(error)}
    model, images, labels = cell.load()
    baseline = peak_bytes()
    network, pixels = lower(model, images), flatten_images(images)
    classes = checked_labels(labels, pixels.shape[1])
    objective, compiling, solving = conic.solve_unreduced(network, pixels, classes, cell.score_settings())
    certified = CERTIFIED[GOLDEN[cell.model], cell.images]
    return {
        "objective": objective, "certified": certified, "compiling": compiling, "whole": solving, "baseline": baseline,
        "peak": peak_bytes(),
    }  # fmt: skip


def _report(done: Round) -> None:
    words = f"round {done.index}, {done.phase}: bound {done.bound:.6f}, objective {done.objective:.6f}"
    print(f"  {words}, gap {done.gap:.1e}, {done.seconds:.1f} s", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """Measure the cell and print the result."""
    torch.set_num_threads(1)
    cell = Cell(**json.loads(arguments[0]))
    print(json.dumps(measure_conic(cell) if cell.conic else measure(cell)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
