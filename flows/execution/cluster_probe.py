"""Probe of a Dask cluster's processes: the code that each has, and what it cannot reach of what a flow needs."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from prefect.settings import PREFECT_API_URL

from flows import tracking
from flows.cache import ROOMS, cache_of, code_digest
from flows.config import settings_of
from flows.errors import FlowError
from flows.prefect_server import SECONDS
from flows.tracking.stores import SQLITE


@dataclass(frozen=True)
class Asked:
    """What a worker has to reach.

    Attributes:
        store: the tracking store's address, of a sqlite store that is still to be made the nearest folder above it.
        server: the Prefect server's address; empty: whichever this flow starts.
        cache: the folder of finished work; empty: none is asked for.
    """

    store: str = field(default="", repr=False)
    server: str = field(default="", repr=False)
    cache: str = ""


@dataclass(frozen=True)
class Seen:
    """What a worker says of itself: its machine, its code's digests, and what it cannot reach."""

    machine: str
    code: Mapping[str, str]
    missing: tuple[str, ...]


def see(asked: Asked) -> Seen:
    """What this process, a worker, has of the project and cannot reach of what it is asked to."""
    return Seen(socket.gethostname(), _code_digests(), tuple(filter(None, _unreachable(asked))))


def _code_digests() -> dict[str, str]:
    return {room: code_digest(room)[:12] for room in ROOMS}


def fault_of(answer: Seen | Exception) -> str:
    """The words for why a process of a cluster cannot do the work; empty where it can."""
    if isinstance(answer, Exception):
        return f"cannot import this project ({type(answer).__name__}: {' '.join(str(answer).split())})"
    for room, here in _code_digests().items():
        if (there := answer.code.get(room)) != here:
            return f"has another code of {room} ({there}) than this process ({here})"
    if not PREFECT_API_URL.value() and answer.machine != socket.gethostname():
        return (
            f"is on another machine ({answer.machine}) and needs a Prefect server that it reaches: `prefect server "
            f"start --host 0.0.0.0`, and set PREFECT_API_URL here"
        )
    return f"cannot reach {' and '.join(answer.missing)}" if answer.missing else ""


def nearest_store(uri: str) -> str:
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
