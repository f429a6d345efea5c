"""The measurements of `benchmarks.speed`: one function each, whose result is plain values."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import psutil

import training
from benchmarks import overhead
from benchmarks.decoupled_cell import Cell as BlockCell
from benchmarks.decoupled_cell import run as run_blocks
from benchmarks.decoupled_networks import Recipe, prepare
from benchmarks.scoring import ONE_THREAD, run
from benchmarks.scoring_cell import MISSING, Cell
from benchmarks.trained import CLASSES, Trained, train_all

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 10_000
EPOCHS, ROUNDS = 3, 3
LONGEST = 3600.0  # s
BEYOND_TORCH = """
import time, torch
for package in ("formulation", "training"):
    start = time.process_time()
    __import__(package)
    print(time.process_time() - start)
"""

Found = dict[str, float]


@dataclass(frozen=True)
class Place:
    """Where data sets and trained networks lie, and which colour images are meant."""

    root: Path
    cache: Path
    colour: str
    seed: int


def imports(_: Place) -> Found:
    """CPU seconds of the libraries' imports beyond torch, in fresh processes."""
    command, said = [sys.executable, "-c", BEYOND_TORCH], []
    for _round in range(ROUNDS):
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        said.append([float(line) for line in done.stdout.split()])
    formulation, training_too = (median(each) for each in zip(*said, strict=True))
    return {"formulation": formulation, "training": training_too}


def first_line(_: Place) -> Found:
    """Seconds on the clock until `python -m flows main` writes its first line, and its CPU seconds until then."""
    took, spent = [], []
    for _round in range(ROUNDS):
        with TemporaryDirectory() as place:
            words = ["main", "--tracking_uri", f"sqlite:///{place}/mlflow.db", "--cache", "none"]
            start = time.perf_counter()
            with subprocess.Popen(
                [sys.executable, "-m", "flows", *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            ) as process:
                assert process.stdout is not None
                if not process.stdout.readline().strip():
                    raise ValueError(f"`python -m flows {' '.join(words)}` ended, or went on, without a first line")
                took.append(time.perf_counter() - start)
                times = psutil.Process(process.pid).cpu_times()
                spent.append(times.user + times.system)
                process.kill()
    return {"wall": median(took), "cpu": median(spent)}


def project_run(_: Place) -> Found:
    """`mlflow run . --env-manager uv`, its environment made before: seconds on the clock, and of CPU."""
    command = [str(Path(sys.executable).with_name("mlflow")), "run", ".", "--env-manager", "uv"]
    with TemporaryDirectory() as place:
        environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{place}/mlflow.db", "CRITICAL_NEURONS_CACHE": "none"}
        _spent(command, environment)
        return _spent(command, environment)


def suite(name: str) -> Found:
    """A suite of tests, as its entry point runs it."""
    return _spent([sys.executable, "-m", "flows", "test", "--suite", name], {})


def scored(place: Place, model: str, images: int, gate: str, gap: float) -> Found:
    """One cell of `benchmarks.scoring`, in a process of its own on one thread."""
    cell = Cell(model, "mnist", images, gate, gap)
    if not model.startswith("golden"):
        files = _trained(place, model)
        # CPU seconds are what is asked: on a busy machine the usual limit would end a cell of 10,000 images.
        words = {"time_limit": LONGEST} | ({"layer_weight": "total"} if gate == "linear" else {})
        cell = replace(cell, weights=str(files.weights), pictures=str(files.images), settings=words)
    return _numbers(run(cell).found, ("whole", "in_solver", "gap", "rounds", "peak"))


def conic(_: Place) -> Found:
    """The golden instance of 10 images by our program and, unreduced, by a free conic solver, one after the other."""
    cell = Cell("golden fc3", "mnist", 10, "published", 1e-4)
    ours, theirs = (_numbers(run(each).found, ("whole", "objective")) for each in (cell, replace(cell, conic=True)))
    return {"ours": ours["whole"], "theirs": theirs["whole"], "apart": abs(ours["objective"] - theirs["objective"])}


def refitted(model: str, images: int) -> Found:
    """A refit of `benchmarks.refit_cost`, in a process of its own."""
    words = [sys.executable, "-m", "benchmarks.refit_cost", "--model", model, "--images", str(images)]
    done = subprocess.run(
        [*words, "--without_ranking"], cwd=ROOT, env={**os.environ, **ONE_THREAD}, stdout=subprocess.PIPE, check=True
    )
    return _numbers(json.loads(done.stdout), ("refit", "peak"))


def blocks(place: Place) -> Found:
    """VGG-16 at full width by block on 100 images; trained barely, as in `benchmarks.decoupled`."""
    recipe = Recipe("vgg16", place.colour, epochs=2, head_epochs=1, limit=5000)
    prepared = prepare(recipe, cache=place.cache, root=place.root, seed=place.seed)
    return _numbers(run_blocks(BlockCell(prepared, recipe.title, 100, "linear")), ("cpu", "peak"))


def tracked(_: Place) -> Found:
    """CPU seconds of this process for a tracked main job, and for the same work as plain calls; medians."""
    found: dict[str, list[float]] = {"tracked": [], "plain": []}
    with TemporaryDirectory() as folder:
        overhead.tracked_run(Path(folder), "warm up")
        for number in range(ROUNDS):
            start = time.process_time()
            overhead.tracked_run(Path(folder), f"round {number}")
            found["tracked"].append(time.process_time() - start)
            start = time.process_time()
            overhead.plain_run()
            found["plain"].append(time.process_time() - start)
    return {name: median(values) for name, values in found.items()}


def _spent(command: Sequence[str], environment: Mapping[str, str]) -> Found:
    """Seconds on the clock and of CPU, with all descendants that were waited for, that a command takes."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **ONE_THREAD, **environment}, stdout=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    took = {"wall": time.perf_counter() - start, "cpu": usage.ru_utime + usage.ru_stime}
    return took | {"code": float(process.returncode)}


def _trained(place: Place, model: str) -> Trained:
    """A network trained on MNIST, with scoring images enough for the largest set.

    They are training images that it classifies correctly: of validation images there are too few.
    """
    made = train_all([model], "mnist", CLASSES, cache=place.cache, root=place.root, epochs=EPOCHS, seed=place.seed)
    files = made[model]
    many = replace(files, images=files.images.with_name(f"training-images-{LARGEST}.npz"))
    if not many.images.exists():
        data = training.load("mnist", root=place.root, seed=place.seed)
        network, _, _ = files.load(1)
        each = LARGEST // CLASSES
        drawn = training.draw(network, data.train, images_per_class=each, classes=data.classes, seed=place.seed)
        with TemporaryDirectory(dir=many.images.parent) as unfinished:  # a file that is there is whole
            np.savez(Path(unfinished) / "images.npz", images=drawn.images.numpy(), labels=drawn.labels.numpy())
            (Path(unfinished) / "images.npz").replace(many.images)
    return many


def _numbers(found: Mapping[str, object], names: Sequence[str]) -> Found:
    if not found:
        raise ValueError("its process failed, and said why above")
    if MISSING in found:
        raise ValueError(str(found[MISSING]))
    return {name: float(str(found[name])) for name in names}
