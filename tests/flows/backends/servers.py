"""Real servers behind a tracking store, each in a folder of its own: PostgreSQL, and MLflow's."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

DEBIAN = "/usr/lib/postgresql"
PATIENCE = 120.0  # seconds that an MLflow server may take to start on busy cores


def postgresql_programs() -> Path:
    """The folder of initdb and pg_ctl; skips the test by name without them, and fails where CI requires them."""
    found = [Path(initdb).resolve().parent] if (initdb := shutil.which("initdb")) else []
    found += sorted(Path(DEBIAN).glob("*/bin"), reverse=True)
    if programs := next((folder for folder in found if (folder / "initdb").is_file()), None):
        return programs
    if "postgresql" in os.environ.get("REQUIRED_BACKENDS", "").split():
        pytest.fail("postgresql is required here ($REQUIRED_BACKENDS) and not installed")
    pytest.skip("initdb is not installed (Debian: postgresql)")


@contextmanager
def postgresql() -> Iterator[str]:
    """A PostgreSQL server with an empty database, for the block; its address as SQLAlchemy has it."""
    programs, port = postgresql_programs(), free_port()
    with TemporaryDirectory(prefix="postgresql") as name:
        place = Path(name)
        shutil.chown(place, *_owner())
        _as_owner([programs / "initdb", "-D", place / "data", "-U", "mlflow", "-A", "trust", "-N"])
        options = f"-p {port} -h 127.0.0.1 -k {place}"
        started = [programs / "pg_ctl", "-D", place / "data", "-l", place / "log", "-w", "-o", options, "start"]
        _as_owner(started)
        try:
            _as_owner([programs / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "mlflow"])
            yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/mlflow"
        finally:
            _as_owner([programs / "pg_ctl", "-D", place / "data", "-m", "immediate", "-w", "stop"])


def _owner() -> tuple[str, ...]:
    # PostgreSQL refuses to run as root.
    return ("postgres", "postgres") if os.geteuid() == 0 else (str(os.geteuid()),)


def _as_owner(words: list[Path | str]) -> None:
    command = [str(word) for word in words]
    if os.geteuid() == 0:
        command = ["runuser", "-u", "postgres", "--", *command]
    done = subprocess.run(command, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout


class TrackingServer:
    """`mlflow server` over a database and a folder of artifacts, at one address however often it is started."""

    def __init__(self, place: Path, database: str) -> None:
        self.place, self.database, self.port = place, database, free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """The address that clients are given."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def group(self) -> int:
        """The number of the group of its processes."""
        assert self.process is not None, "the server is not started"
        return self.process.pid

    def start(self) -> None:
        """Start the server by the documented command, and wait until it answers."""
        words = ["--backend-store-uri", self.database, "--artifacts-destination", str(self.place / "artifacts")]
        program = Path(sys.executable).with_name("mlflow")
        with (self.place / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [program, "server", *words, "--serve-artifacts", "--port", str(self.port), "--workers", "1"],
                stdout=log,
                stderr=log,
                # No queue of jobs: a process less for each kind of job.
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                start_new_session=True,
            )
        end = time.monotonic() + PATIENCE
        while not self._answers():
            assert self.process.poll() is None, (self.place / "server.log").read_text()
            assert time.monotonic() < end, (self.place / "server.log").read_text()
            time.sleep(0.2)

    def kill(self) -> None:
        """Kill the server and its workers, as a machine's end would."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def tracking_server(place: Path, database: str) -> Iterator[TrackingServer]:
    """An MLflow server for the block, started."""
    place.mkdir(parents=True, exist_ok=True)
    server = TrackingServer(place, database)
    try:
        server.start()
        yield server
    finally:
        server.kill()


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
