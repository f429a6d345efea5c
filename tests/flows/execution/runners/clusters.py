"""A real Dask scheduler and its workers, each a process started by the documented command in another folder."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from distributed import Client

from tests.flows.backends.servers import free_port

ROOT = Path(__file__).resolve().parents[4]
PATIENCE = 60.0


class Cluster:
    """A scheduler at one address however often it is started, and workers without Dask's own restarting of them."""

    def __init__(self, place: Path) -> None:
        self.place, self.port = place, free_port()
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def address(self) -> str:
        """Where the scheduler listens."""
        return f"tcp://127.0.0.1:{self.port}"

    def scheduler(self) -> subprocess.Popen[bytes]:
        """Start the scheduler, and wait until it answers."""
        process = self._start("scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")
        Client(self.address, timeout=PATIENCE, set_as_default=False).close()
        return process

    def worker(self, pythonpath: str = str(ROOT)) -> subprocess.Popen[bytes]:
        """Start a worker with one thread, and wait until the scheduler knows it."""
        before = self._workers()
        process = self._start("worker", self.address, "--nthreads", "1", "--no-nanny", pythonpath=pythonpath)
        end = time.monotonic() + PATIENCE
        while self._workers() <= before:
            assert time.monotonic() < end, "the worker does not come"
            time.sleep(0.2)
        return process

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill a process as a machine's end would."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        """Kill all."""
        for process in self.processes:
            self.kill(process)

    def _workers(self) -> int:
        with Client(self.address, timeout=PATIENCE, set_as_default=False) as client:
            return len(client.scheduler_info(n_workers=-1)["workers"])

    def _start(self, *words: str, pythonpath: str = str(ROOT)) -> subprocess.Popen[bytes]:
        with (self.place / "dask.log").open("ab") as log:
            process = subprocess.Popen(
                [Path(sys.executable).with_name("dask"), *words],
                cwd=self.place,
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONPATH": pythonpath},
                start_new_session=True,
            )
        self.processes.append(process)
        return process
