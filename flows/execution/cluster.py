"""A running Dask cluster: what may be wrong with it before any work, and whether it is still there in the middle."""

import importlib.util
import logging
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING

from prefect.settings import PREFECT_API_URL

from flows.adapters import data_folder
from flows.cache import NOTHING, ROOT, VARIABLE, cache_of
from flows.config import Settings
from flows.errors import ClusterError, SettingsError
from flows.execution.cluster_probe import Asked, fault_of, nearest_store, see

# Where they are used: few flows need Dask, and it takes most of a second to import.
if TYPE_CHECKING:
    from distributed import Client, LocalCluster

ANSWER = 5.0  # seconds in which a scheduler has to answer
PATIENCE = 20.0  # seconds without any worker, or without a word from the scheduler, before a flow gives up
LOOK = 1.0  # seconds between two looks at the cluster
PACKAGES = ("torch", "torchvision", "highspy", "linopy", "mlflow", "prefect")  # besides those that Dask compares
FIND = (importlib.util.find_spec, "flows")
LOGGERS = ("distributed", "tornado", "bokeh")


def require_cluster(settings: Settings, uri: str) -> None:
    """Raise SettingsError where the Dask cluster of `settings.dask_address` cannot do the settings' work.

    The scheduler answers, there is a worker, each of them runs the same versions and imports this very project, and
    each worker reaches the tracking store at `uri`, the Prefect server and the folder of finished work.
    """
    with closing(_connected(settings.dask_address)) as client:
        if not client.scheduler_info(n_workers=-1)["workers"]:
            raise SettingsError(f"{_named(settings)} has no worker: {_start(settings.dask_address)}")
        if other := _other_version(client):
            raise SettingsError(f"{_named(settings)}: {other[1]}: {_remedy(settings, other[0])}")
        # The scheduler reads the calls too, and would import the project while it is asked whether it is there.
        there = {f"its worker {name}": spec for name, spec in client.run(*FIND, on_error="return").items()}
        there["its scheduler"] = client.run_on_scheduler(*FIND)
        for who, spec in there.items():
            if spec is None or isinstance(spec, Exception):
                raise SettingsError(f"{_named(settings)}: {who} cannot import this project: {_remedy(settings, who)}")
        asked = Asked(nearest_store(uri), PREFECT_API_URL.value() or "", placed_on_cluster(settings).cache)
        # At the same time: each of them takes seconds to import the project.
        with ThreadPoolExecutor(max_workers=1) as beside:
            scheduler = beside.submit(client.run_on_scheduler, see, Asked())
            seen = {f"its worker {name}": each for name, each in client.run(see, asked, on_error="return").items()}
            seen["its scheduler"] = scheduler.result()
    for who, answer in seen.items():
        if fault := fault_of(answer):
            raise SettingsError(f"{_named(settings)}: {who} {fault}: {_remedy(settings, who)}")


def placed_on_cluster(settings: Settings) -> Settings:
    """The settings with folders that mean the same in a process that was started elsewhere."""
    named = settings.cache or os.environ.get(VARIABLE, "")
    with cache_of(settings) as cache:
        folder = named if named == NOTHING else str(cache.root)
    return settings.model_copy(update={"cache": folder, "data_root": str(data_folder(settings))})


def local_cluster(workers: int) -> "LocalCluster":
    """A cluster of this flow's own: a process with one thread for each worker, ended with the flow."""
    from distributed import LocalCluster

    quieten_dask()
    # No limit of memory: Dask would stop a worker at its share of it, whatever the others take.
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        # Any free port: without an address the scheduler takes 8787, and warns where that is taken.
        scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        silence_logs=logging.CRITICAL,
        memory_limit=0,
    )


def watched(client: "Client", address: str) -> Callable[[], int]:
    """A function that says how many threads the workers have.

    It raises ClusterError once the scheduler is gone, or no worker has been there for 20 seconds.
    """
    there, looked, threads = time.monotonic(), -LOOK, 0

    def look() -> int:
        nonlocal there, looked, threads
        if client.status != "running":
            raise gone(address)
        if time.monotonic() - looked < LOOK:
            return threads
        try:
            alive = client.sync(client.scheduler.ncores, callback_timeout=PATIENCE)
        except (OSError, TimeoutError) as error:
            raise gone(address) from error
        looked, threads = time.monotonic(), sum(alive.values())
        if alive:
            there = looked
        if looked - there > PATIENCE:
            raise ClusterError(
                f"no Dask worker is left at {address}: {_start(address)}; what was finished is kept and the same "
                f"command goes on"
            )
        return threads

    return look


def gone(address: str) -> ClusterError:
    """The error of a scheduler that went away; without an address that of a flow's own cluster."""
    if not address:
        return ClusterError(
            "the Dask cluster of this flow went away: what was finished is kept and the same command goes on"
        )
    return ClusterError(
        f"the Dask scheduler at {address} went away: start it again (`PYTHONPATH={ROOT} dask scheduler`) and its "
        f"workers; what was finished is kept and the same command goes on"
    )


def quieten_dask() -> None:
    """Leave out what Dask, once imported, says of connections that break: the one line of the error is enough."""
    # Several of its loggers have levels of their own.
    for name in [each for each in logging.root.manager.loggerDict if each.partition(".")[0] in LOGGERS]:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").addFilter(_is_not_dasks)


def _is_not_dasks(record: logging.LogRecord) -> bool:
    """Whether a record is about anything but a call of Dask's client that nobody waits for any longer."""
    error = record.exc_info[1] if record.exc_info else None
    return not type(error).__module__.startswith("distributed")


def _connected(address: str) -> "Client":
    from distributed import Client
    from distributed.comm.addressing import get_address_host_port

    quieten_dask()
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


def _other_version(client: "Client") -> tuple[str, str] | None:
    """Which of the cluster's processes has another version of a package than this one, and the words for it."""
    # With check=True Dask only warns, in a table, and not of what its scheduler has.
    found = client.get_versions(packages=PACKAGES)
    answers = {"its scheduler": found["scheduler"], **{f"its worker {who}": it for who, it in found["workers"].items()}}
    for name, here in found["client"]["packages"].items():
        for who, answer in answers.items():
            if (there := answer["packages"].get(name)) != here:
                return who, f"{who} has another {name} ({there or 'none'}) than this process ({here or 'none'})"
    return None
