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


class PostgreSQL:
    """A PostgreSQL server with a database in a folder of its own, at one address however often it is started."""

    def __init__(self, place: Path) -> None:
        self.place, self.programs, self.port = place, postgresql_programs(), free_port()
        shutil.chown(place, *_owner())
        _as_owner([self.programs / "initdb", "-D", place / "data", "-U", "mlflow", "-A", "trust", "-N"])

    @property
    def uri(self) -> str:
        """Its database's address as SQLAlchemy has it."""
        return f"postgresql+psycopg2://mlflow@127.0.0.1:{self.port}/mlflow"

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        options = f"-p {self.port} -h 127.0.0.1 -k {self.place}"
        data, log = self.place / "data", self.place / "log"
        _as_owner([self.programs / "pg_ctl", "-D", data, "-l", log, "-w", "-o", options, "start"])

    def create(self) -> None:
        """Make the database, empty."""
        _as_owner([self.programs / "createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "mlflow", "mlflow"])

    def kill(self) -> None:
        """End all of its processes at once, without a word to anybody, as a crash does."""
        with suppress(AssertionError):
            _as_owner([self.programs / "pg_ctl", "-D", self.place / "data", "-m", "immediate", "-w", "stop"])


@contextmanager
def postgresql() -> Iterator[str]:
    """A PostgreSQL server with an empty database, for the block; its address as SQLAlchemy has it."""
    with TemporaryDirectory(prefix="postgresql") as name:
        server = PostgreSQL(Path(name))
        try:
            server.start()
            server.create()
            yield server.uri
        finally:
            server.kill()


def _owner() -> tuple[str, ...]:
    # PostgreSQL refuses to run as root.
    return ("postgres", "postgres") if os.geteuid() == 0 else (str(os.geteuid()),)


def _as_owner(words: list[Path | str]) -> None:
    command = [str(word) for word in words]
    if os.geteuid() == 0:
        command = ["runuser", "-u", "postgres", "--", *command]
    done = subprocess.run(command, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout


class CommandServer:
    """A server that a command starts in a folder of its own, at one address however often it is started."""

    def __init__(self, place: Path) -> None:
        self.place, self.port = place, free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def kill(self) -> None:
        """Kill the server and its workers, as a machine's end would."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def _start(self, words: list[str], health: str, environment: dict[str, str]) -> None:
        program = Path(sys.executable).with_name(words[0])
        with (self.place / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [program, *words[1:], "--port", str(self.port)],
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        _wait_for(health, self.process, self.place / "server.log")


class TrackingServer(CommandServer):
    """`mlflow server` over a database and a folder of artifacts."""

    def __init__(self, place: Path, database: str) -> None:
        super().__init__(place)
        self.database = database

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
        # No queue of jobs: a process less for each kind of job.
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        words = ["mlflow", "server", *words, "--serve-artifacts", "--workers", "1"]
        self._start(words, f"{self.uri}/health", environment)


class PrefectServer(CommandServer):
    """`prefect server start` over a folder of its own."""

    @property
    def uri(self) -> str:
        """The address that PREFECT_API_URL names."""
        return f"http://127.0.0.1:{self.port}/api"

    def start(self) -> None:
        """Start the server by the documented command, and wait until it answers."""
        self.place.mkdir(parents=True, exist_ok=True)
        # Without the address of another server, which the command would take for its own.
        environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
        words = ["prefect", "server", "start", "--host", "127.0.0.1", "--no-ui"]
        self._start(words, f"{self.uri}/health", environment | {"PREFECT_HOME": str(self.place)})


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


def _wait_for(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers at an address."""
    end = time.monotonic() + PATIENCE
    while not _answers(address):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
