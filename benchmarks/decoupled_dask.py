"""The same programs on one and on two Dask workers, as `docs/dask.md` starts them, for `benchmarks.decoupled`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from distributed import Client
from mlflow import MlflowClient

from benchmarks.decoupled_networks import WEIGHTS, Prepared, Recipe
from flows import tracking
from flows.adapters.aggregation import BLOCK_TAG, STAGE

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 120.0  # seconds that a server may take to start on busy cores
ENOUGH = 2000  # training images of the heads, which are trained anew by every flow
HOST = "127.0.0.1"
SCORED = {
    "loss_weight": "5",
    "blocks": "auto", "head_epochs": "1", "layer_weight": "total", "gap": "0.001", "scoring_sets": "1",
    "images_per_class": "50", "task_runner": "dask", "cache": "none",
}  # fmt: skip


class FlowFailed(RuntimeError):
    """A flow, or a server that it needs, did not do what it should."""


@dataclass(frozen=True)
class Bench:
    """A folder away from the project, its Prefect server, its Dask scheduler and its tracking store."""

    folder: Path
    server: int
    scheduler: int

    @property
    def store(self) -> str:
        """The tracking store's address."""
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    @property
    def address(self) -> str:
        """Where the Dask scheduler listens."""
        return f"tcp://{HOST}:{self.scheduler}"

    @property
    def environment(self) -> dict[str, str]:
        """Of every process: this project, this Prefect server, a Prefect folder of its own, and locks of its own.

        Flows share this machine's cores by locks in the folder of temporary files; others' flows are not waited for.
        """
        own = {"PYTHONPATH": str(ROOT), "PREFECT_HOME": str(self.folder / "prefect"), "TMPDIR": str(self.folder)}
        return os.environ | own | {"PREFECT_API_URL": f"http://{HOST}:{self.server}/api"}


def measure_dask(recipe: Recipe, prepared: Prepared, gate: str, *, root: Path, seed: int) -> list[dict[str, Any]]:
    """What one worker and what two take for all blocks of a network: see `_scored`."""
    with TemporaryDirectory(prefix="decoupled-") as name, ExitStack() as running:
        bench = Bench(Path(name), _free_port(), _free_port())
        running.enter_context(_started(bench, "prefect", "server", "start", "--port", str(bench.server), "--no-ui"))
        _wait(lambda: httpx.get(f"http://{HOST}:{bench.server}/api/health").is_success, "the Prefect server")
        trained = _flow(
            bench, "train",
            {
                "model": recipe.model, "dataset": recipe.dataset, "data_root": str(root), "seed": str(seed),
                "limit": str(ENOUGH), "epochs": "0", "checkpoint": str(Path(prepared.folder) / WEIGHTS),
                "cache": "none",
            },
        )  # fmt: skip
        words = SCORED | {"run_id": trained, "gate": gate, "data_root": str(root), "dask_address": bench.address}
        return [_scored(bench, words, workers) for workers in (1, 2)]


def _scored(bench: Bench, words: Mapping[str, str], workers: int) -> dict[str, Any]:
    """The `seconds` of every program, the `wall` from the first one's start to the last one's end, and the `load`."""
    port = str(bench.scheduler)
    with (
        _started(bench, "dask", "scheduler", "--host", HOST, "--port", port, "--no-dashboard"),
        _started(bench, "dask", "worker", bench.address, "--nworkers", str(workers), "--nthreads", "1"),
    ):
        _wait(lambda: _workers(bench.address) == workers, f"{workers} Dask workers")
        load = os.getloadavg()[0]
        run_id = _flow(bench, "score", words)
    times = _times(bench, run_id)
    for block, (start, end) in times.items():
        print(f"  {workers} workers: {block} {start:.1f} to {end:.1f} s", file=sys.stderr, flush=True)
    return {
        "seconds": [end - start for start, end in times.values()],
        "wall": max(end for _, end in times.values()) - min(start for start, _ in times.values()),
        "load": f"{load:.1f}, {os.getloadavg()[0]:.1f}",
    }


def _times(bench: Bench, run_id: str) -> dict[str, tuple[float, float]]:
    """When every program of a score flow began and ended, in seconds from the first one's start, by its block."""
    client = MlflowClient(bench.store)
    scored = tracking.find_stage(tracking.find_run(bench.store, run_id), "score")
    runs = [client.get_run(each.run_id) for each in scored.below(STAGE)]
    first = min(each.info.start_time for each in runs)
    return {
        each.data.tags[BLOCK_TAG]: ((each.info.start_time - first) / 1e3, (each.info.end_time - first) / 1e3)
        for each in runs
    }


def _flow(bench: Bench, name: str, words: Mapping[str, str]) -> str:
    """Run a flow as a person does; its run."""
    words = {**words, "tracking_uri": bench.store}
    options = [part for each, value in words.items() for part in (f"--{each}", value)]
    command = [sys.executable, "-m", "flows", name, *options]
    print(" ".join(command), file=sys.stderr, flush=True)
    done = subprocess.run(
        command, cwd=ROOT, env=bench.environment, stdout=subprocess.PIPE, text=True, check=False
    )  # fmt: skip
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""
    if done.returncode or " run " not in last:
        raise FlowFailed(f"failed: {' '.join(command)}: {last}")
    return last.split(" run ", 1)[1].split()[0]


@contextmanager
def _started(bench: Bench, *command: str) -> Iterator[None]:
    """A program of this environment meanwhile, started in the bench's folder."""
    program = Path(sys.executable).with_name(command[0])
    with (bench.folder / f"{command[0]}.log").open("ab") as log:
        process = subprocess.Popen(
            [program, *command[1:]], cwd=bench.folder, env=bench.environment, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it has started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10.0)


def _wait(there: Any, what: str) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        with suppress(OSError, TimeoutError, httpx.HTTPError):
            if there():
                return
        if time.monotonic() > end:
            raise FlowFailed(f"{what} did not come within {PATIENCE:g} s")
        time.sleep(0.3)


def _workers(address: str) -> int:
    with Client(address, timeout=5.0, set_as_default=False) as client:
        return len(client.scheduler_info(n_workers=-1)["workers"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
