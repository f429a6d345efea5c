"""A running Dask cluster: what may be wrong with it before any work, and whether it is still there in the middle."""

import importlib.util
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import httpx
from distributed import Client, LocalCluster
from distributed.comm.addressing import get_address_host_port
from prefect.settings import PREFECT_API_URL

from flows import tracking
from flows.caching import NOTHING, ROOT, VARIABLE, cache_of, code_digest
from flows.errors import FlowError, SettingsError
from flows.server import SECONDS
from flows.settings import Settings
from flows.tracking.stores import SQLITE
from flows.translation import data_folder
from flows.words import settings_of

ANSWER = 5.0  # seconds in which a scheduler has to answer
PATIENCE = 20.0  # seconds without any worker, or without a word from the scheduler, before a flow gives up
LOOK = 1.0  # seconds between two looks at the cluster
PACKAGES = ("torch", "torchvision", "numpy", "highspy", "linopy", "mlflow", "prefect", "dask")
FIND = (importlib.util.find_spec, "flows")
LOGGERS = ("distributed", "tornado", "bokeh")


@dataclass(frozen=True)
class Asked:
    """What a worker has to reach.

    Attributes:
        store: the tracking store's address, of a sqlite store that is still to be made the nearest folder above it.
        server: the Prefect server's address; empty: whichever this flow starts.
        cache: the folder of finished work; empty: none is asked for.
    """

    store: str = ""
    server: str = ""
    cache: str = ""


@dataclass(frozen=True)
class Seen:
    """What a worker says of itself: its machine, its versions, and what it cannot reach."""

    machine: str
    versions: Mapping[str, str]
    missing: tuple[str, ...]


def require_cluster(settings: Settings, uri: str) -> None:
    """Raise SettingsError where the Dask cluster of `settings.dask_address` cannot do the settings' work.

    The scheduler answers, there is a worker, each of them imports this very project and runs the same versions, and
    each worker reaches the tracking store at `uri`, the Prefect server and the folder of finished work.
    """
    quieten_dask()
    with closing(_connected(settings.dask_address)) as client:
        if not client.scheduler_info(n_workers=-1)["workers"]:
            raise SettingsError(f"{_named(settings)} has no worker: {_start(settings.dask_address)}")
        # The scheduler reads the calls too, and would import the project while it is asked whether it is there.
        there = {f"its worker {name}": spec for name, spec in client.run(*FIND, on_error="return").items()}
        there["its scheduler"] = client.run_on_scheduler(*FIND)
        for who, spec in there.items():
            if spec is None or isinstance(spec, Exception):
                raise SettingsError(f"{_named(settings)}: {who} cannot import this project: {_remedy(settings, who)}")
        asked = Asked(_nearest(uri), PREFECT_API_URL.value() or "", placed(settings).cache)
        seen = {f"its worker {name}": each for name, each in client.run(see, asked, on_error="return").items()}
        seen["its scheduler"] = client.run_on_scheduler(see, Asked())
    for who, answer in seen.items():
        if wrong := _wrong(answer):
            raise SettingsError(f"{_named(settings)}: {who} {wrong}: {_remedy(settings, who)}")


def see(asked: Asked) -> Seen:
    """What this process, a worker, runs and cannot reach of what it is asked to."""
    return Seen(socket.gethostname(), _versions(), tuple(filter(None, _unreachable(asked))))


def placed(settings: Settings) -> Settings:
    """The settings with folders that mean the same in a process that was started elsewhere."""
    named = settings.cache or os.environ.get(VARIABLE, "")
    with cache_of(settings) as cache:
        folder = named if named == NOTHING else str(cache.root)
    return settings.model_copy(update={"cache": folder, "data_root": str(data_folder(settings))})


def local_cluster(workers: int) -> LocalCluster:
    """A cluster of this flow's own: a process with one thread for each worker, ended with the flow."""
    quieten_dask()
    # No limit of memory: Dask would stop a worker at its share of it, whatever the others take.
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        silence_logs=logging.CRITICAL,
        memory_limit=0,
    )


def watched(client: Client, address: str) -> Callable[[], int]:
    """A function that says how many threads the workers have.

    It raises FlowError once the scheduler is gone, or no worker has been there for 20 seconds.
    """
    there, looked, threads = time.monotonic(), -LOOK, 0

    def look() -> int:
        nonlocal there, looked, threads
        if client.status != "running":
            raise FlowError(_gone(address))
        if time.monotonic() - looked < LOOK:
            return threads
        try:
            alive = client.sync(client.scheduler.ncores, callback_timeout=PATIENCE)
        except (OSError, TimeoutError) as error:
            raise FlowError(_gone(address)) from error
        looked, threads = time.monotonic(), sum(alive.values())
        if alive:
            there = looked
        if looked - there > PATIENCE:
            raise FlowError(
                f"no Dask worker is left at {address}: {_start(address)}; what was finished is kept and the same "
                f"command goes on"
            )
        return threads

    return look


def gone(address: str) -> FlowError:
    """The error of a scheduler that went away."""
    return FlowError(_gone(address))


def quieten_dask() -> None:
    """Leave out what Dask says of connections that break: the one line of the error is enough."""
    # Several of its loggers have levels of their own.
    for name in [each for each in logging.root.manager.loggerDict if each.partition(".")[0] in LOGGERS]:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _connected(address: str) -> Client:
    try:
        # First, because a client that never reached its scheduler complains of that once more when the process ends.
        with socket.create_connection(get_address_host_port(address, strict=True), timeout=ANSWER):
            pass
        return Client(address, timeout=ANSWER, set_as_default=False)
    except (OSError, ValueError, TimeoutError, NotImplementedError) as error:
        where = f"PYTHONPATH={ROOT} dask scheduler --host 127.0.0.1"
        raise SettingsError(
            f"dask_address={address}: no Dask scheduler answers within {ANSWER:g} s; start one with `{where}`, correct "
            f"the address (tcp://host:8786), or leave it empty for a cluster of this flow's own"
        ) from error


def _named(settings: Settings) -> str:
    return f"dask_address={settings.dask_address}"


def _start(address: str) -> str:
    return f"start one (`PYTHONPATH={ROOT} dask worker {address} --nthreads 1`, in this project's environment)"


def _remedy(settings: Settings, who: str) -> str:
    if who.startswith("its worker"):
        return f"end it, and {_start(settings.dask_address)}"
    return f"end it, and start it as this project (`PYTHONPATH={ROOT} dask scheduler`, in this project's environment)"


def _gone(address: str) -> str:
    return (
        f"the Dask scheduler at {address} went away: start it again (`PYTHONPATH={ROOT} dask scheduler`) and its "
        f"workers; what was finished is kept and the same command goes on"
    )


def _versions() -> dict[str, str]:
    python = ".".join(str(part) for part in sys.version_info[:3])
    code = {f"the code of {room}": code_digest(room)[:12] for room in ("flows", "formulation", "training")}
    return {"python": python, **{name: version(name) for name in PACKAGES}, **code}


def _wrong(answer: Seen | Exception) -> str:
    if isinstance(answer, Exception):
        return f"cannot import this project ({type(answer).__name__}: {' '.join(str(answer).split())})"
    for name, here in _versions().items():
        if (there := answer.versions.get(name)) != here:
            return f"has another {name} ({there}) than this process ({here})"
    if not PREFECT_API_URL.value() and answer.machine != socket.gethostname():
        return (
            f"is on another machine ({answer.machine}) and needs a Prefect server that it reaches: `prefect server "
            f"start --host 0.0.0.0`, and set PREFECT_API_URL here"
        )
    return f"cannot reach {' and '.join(answer.missing)}" if answer.missing else ""


def _nearest(uri: str) -> str:
    """A store that is not a file by its address, a file by itself or the nearest folder that exists above it."""
    if not uri.startswith(SQLITE):
        return uri
    path = Path(uri.removeprefix(SQLITE))
    return f"{SQLITE}{next(each for each in (path, *path.parents) if each.exists())}"


def _unreachable(asked: Asked) -> list[str]:
    return [_store_fault(asked.store), _server_fault(asked.server), _cache_fault(asked.cache)]


def _store_fault(store: str) -> str:
    if not store:
        return ""
    if store.startswith(SQLITE):
        path = store.removeprefix(SQLITE)
        return "" if Path(path).exists() else f"the tracking store in {path} (name a tracking server by tracking_uri)"
    try:
        tracking.reach_store(store)
    except FlowError as error:
        return str(error)
    return ""


def _server_fault(server: str) -> str:
    if not server:
        return ""
    try:
        return "" if httpx.get(f"{server}/health", timeout=SECONDS).is_success else f"the Prefect server {server}"
    except httpx.HTTPError:
        return f"the Prefect server {server} (start it with `--host 0.0.0.0`, and set PREFECT_API_URL to its address)"


def _cache_fault(cache: str) -> str:
    if not cache:
        return ""
    try:
        with cache_of(settings_of({"cache": cache})) as folder:
            folder.lock("folder")
    except FlowError as error:
        return str(error)
    return ""
