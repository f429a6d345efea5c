"""Vanished services: one line for a scheduler, a server or a database that goes away in the middle of a flow.

Whatever a client raises when nobody answers it any longer is translated here and nowhere else. An error belongs to a
service by its class, where only a lost connection raises that; else by the client in whose code it arose, and then only
where the service's address indeed takes no connection.
"""

import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from urllib.parse import urlsplit

from flows import tracking
from flows.config import Settings
from flows.errors import FlowError, ServerError, StoreError
from flows.execution import cluster
from flows.execution.log_lines import MENDABLE
from flows.prefect_server import server_address, went_away
from flows.redaction import redacted

LONGEST = 200  # characters of what a database says
ANSWER = 5.0  # seconds in which an address has to take a connection
LOST, UNAVAILABLE = 500, ("TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR")


class Service(Enum):
    """What a flow asks over a connection."""

    PREFECT = "prefect"
    DASK = "dask"
    STORE = "store"


# By name, because not every client is a requirement of this project's own.
CLASSES = {
    "httpx.TransportError": Service.PREFECT,
    "websockets.exceptions.ConnectionClosed": Service.PREFECT,
    "distributed.comm.core.CommClosedError": Service.DASK,
    "distributed.core.RPCClosed": Service.DASK,
    "distributed.client.FutureCancelledError": Service.DASK,
    "distributed.client.FuturesCancelledError": Service.DASK,
    "distributed.client.ClosedClientError": Service.DASK,
    "requests.exceptions.ConnectionError": Service.STORE,
    "requests.exceptions.Timeout": Service.STORE,
    "urllib3.exceptions.HTTPError": Service.STORE,
    "sqlalchemy.exc.OperationalError": Service.STORE,
    "sqlalchemy.exc.InterfaceError": Service.STORE,
    "sqlalchemy.exc.TimeoutError": Service.STORE,
    "psycopg2.OperationalError": Service.STORE,
    "psycopg2.InterfaceError": Service.STORE,
}
CLIENTS = {
    **dict.fromkeys(("prefect", "httpx", "httpcore", "websockets"), Service.PREFECT),
    **dict.fromkeys(("distributed", "prefect_dask"), Service.DASK),
    **dict.fromkeys(("mlflow", "requests", "urllib3", "sqlalchemy", "psycopg2"), Service.STORE),
}
PORTS: Mapping[str, int] = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
ADDRESS = re.compile(r"\b[a-z]+://[^\s,;'\"<>]+")
OURS = ("flows", "training", "formulation", "tests", "benchmarks")


@dataclass(frozen=True)
class Services:
    """The addresses of what a flow asks.

    Attributes:
        store: the tracking store's.
        scheduler: the Dask scheduler's; empty: that of a cluster of the flow's own, if any.
    """

    store: str
    scheduler: str = ""

    def address(self, service: Service) -> str:
        """The address of one of them; empty where it is not known."""
        match service:
            case Service.PREFECT:
                return server_address()
            case Service.DASK:
                return self.scheduler
            case Service.STORE:
                return self.store


def services_of(settings: Settings) -> Services:
    """The services of a flow with these settings."""
    return Services(tracking.store_uri(settings.tracking_uri), settings.dask_address)


@contextmanager
def vanishing(services: Services) -> Iterator[None]:
    """Raise the error of a service that went away in place of what its client says; all other errors as they are."""
    try:
        yield
    except MENDABLE:
        raise
    # A client's error may be of any class where a service went away; all others are raised again.
    except Exception as error:
        if (said := vanished(error, services)) is None:
            raise
        raise said from error


def vanished(error: BaseException, services: Services) -> FlowError | None:
    """The error of the service that went away, in one line; None where an error is about something else."""
    if (service := _service_of(error, services)) is None:
        return None
    reason = type(error).__name__
    match service:
        case Service.PREFECT:
            return ServerError(went_away(reason, services.store))
        case Service.DASK:
            return cluster.gone(services.scheduler)
        case Service.STORE:
            return StoreError(_of_store(error, services.store))


def _of_store(error: BaseException, store: str) -> str:
    # A file goes nowhere, but what is in it may not be a store: what the database says of that tells more.
    elsewhere, reason = _place(store) is not None, type(error).__name__
    what = f"went away in the middle ({reason})" if elsewhere else f"failed in the middle ({_first_line(error)})"
    return (
        f"tracking store {redacted(store)} {what}: what was finished is kept; when the store can be used "
        f"again, the same command goes on"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:LONGEST]


def _service_of(error: BaseException, services: Services) -> Service | None:
    for each in _chain(error):
        if found := _by_class(each):
            return found
    for each in _chain(error):
        found = _by_caller(each.__traceback__)
        if found and not answers(services.address(found) or _named(each)):
            return found
    return None


def _named(error: BaseException) -> str:
    """The address that an error's own words name, as distributed's do; empty where they name none."""
    found = ADDRESS.search(str(error))
    return found.group() if found else ""


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and those that it came from."""
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or following.__context__


def _by_class(error: BaseException) -> Service | None:
    for kind in type(error).__mro__:
        if found := CLASSES.get(f"{kind.__module__}.{kind.__qualname__}"):
            return found
    # A server that is there, but whose own database is not.
    if type(error).__name__ == "PrefectHTTPStatusError":
        response = getattr(error, "response", None)
        return Service.PREFECT if response is not None and response.status_code >= LOST else None
    if type(error).__name__ == "RestException" and getattr(error, "error_code", "") in UNAVAILABLE:
        return Service.STORE
    return None


def _by_caller(traceback: TracebackType | None) -> Service | None:
    """The service whose client was at work last; none where the error arose in code of this project or of others."""
    found: Service | None = None
    while traceback is not None:
        package = str(traceback.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        found = None if package in OURS else CLIENTS.get(package, found)
        traceback = traceback.tb_next
    return found


def answers(address: str) -> bool:
    """Whether an address takes a connection; one without a port is taken to do so."""
    if not (place := _place(address)):
        return True
    try:
        with socket.create_connection(place, timeout=ANSWER):
            return True
    except OSError:
        return False


def _place(address: str) -> tuple[str, int] | None:
    parts = urlsplit(address)
    try:
        port = parts.port or PORTS.get(parts.scheme.partition("+")[0], 0)
    except ValueError:
        return None
    return (parts.hostname, port) if parts.hostname and port else None
