"""Prefect server: the named one, whether it is there; else one of this process's own, started and reached directly."""

import os
import sys
from typing import TYPE_CHECKING

import httpx
from prefect import get_client
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
)

from flows.errors import ServerError
from flows.redaction import redacted

if TYPE_CHECKING:
    from prefect.server.api.server import SubprocessASGIServer

IMPORTED = "prefect.server.api.server"  # only where a server of this process's own was asked for
SECONDS = 5.0
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
DIRECT = ("localhost", "127.0.0.1", "::1")  # what no proxy is asked for: servers of this machine
START = "start one with `prefect server start` in another terminal"


def reach_server() -> None:
    """Raise ServerError where a Prefect server is named but does not answer; one that is not named Prefect starts."""
    leave_out_proxies()
    url = PREFECT_API_URL.value()
    if not url:
        return
    with get_client(httpx_settings={"timeout": SECONDS}, sync_client=True) as client:
        reason = client.api_healthcheck()
    if reason is not None:
        raise ServerError(
            f"Prefect server {url} does not answer ({' '.join(str(reason).split())}): {START}, correct "
            f"PREFECT_API_URL, or unset it to run without one"
        )


def require_server() -> None:
    """Raise ServerError where no Prefect server is named."""
    if not PREFECT_API_URL.value():
        raise ServerError(f"PREFECT_API_URL is not set: {START}, and set it here to http://127.0.0.1:4200/api")


def server_address() -> str:
    """The address of the named Prefect server, else of the one that Prefect started for this process; or empty."""
    if named := PREFECT_API_URL.value():
        return str(named)
    own = _own_server() if IMPORTED in sys.modules else None
    return own.api_url if own and own.running else ""


def end_own_server() -> None:
    """End the server that was started for this process, if any, without waiting for it."""
    own = _own_server() if IMPORTED in sys.modules else None
    if own and own.server_process:
        own.server_process.terminate()


def start_server() -> None:
    """Start a Prefect server for this process where none is named; raises ServerError where it does not come up."""
    if PREFECT_API_URL.value():
        return
    if not PREFECT_SERVER_ALLOW_EPHEMERAL_MODE.value():
        raise ServerError(
            f"PREFECT_API_URL is not set, and PREFECT_SERVER_ALLOW_EPHEMERAL_MODE forbids a server of this flow's own: "
            f"{START} and set PREFECT_API_URL to http://127.0.0.1:4200/api, or allow it"
        )
    server = _own_server()
    try:
        server.start()
    except (RuntimeError, OSError, httpx.HTTPError) as error:
        server.stop()
        seconds = PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value()
        raise ServerError(
            f"this flow's own Prefect server did not start within {seconds} s ({_first_line(error)}): give it longer "
            f"(PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS=300), or {START} and set PREFECT_API_URL to "
            f"http://127.0.0.1:4200/api"
        ) from error


def _own_server() -> "SubprocessASGIServer":
    """The one server of this process, started or not."""
    from prefect.server.api.server import SubprocessASGIServer  # here, because few need it, and it takes seconds

    return SubprocessASGIServer()


def went_away(reason: str, store: str) -> str:
    """What to say of a server that went away in the middle of a flow that is tracked in a store."""
    # Tasks go on without the server: what fails is to tell it how a flow begins or ends.
    return (
        f"Prefect server {PREFECT_API_URL.value() or 'of this process'} went away in the middle ({reason}): what was "
        f"finished is kept in {redacted(store)}; start the server, and the same command goes on"
    )


def leave_out_proxies() -> None:
    """Ask servers of this machine directly, whatever proxies the environment names; raises ServerError.

    A proxy elsewhere knows another machine by the name of this one. Refused is one that no client here can use.
    """
    if not any(_of_environment(name) for name in PROXIES):
        return
    for name in ("NO_PROXY", "no_proxy"):
        present = [each.strip() for each in os.environ.get(name, "").split(",") if each.strip()]
        os.environ[name] = ",".join([*present, *(each for each in DIRECT if each not in present)])
    try:
        httpx.Client().close()
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        named = " or ".join(name for name in PROXIES if _of_environment(name))
        raise ServerError(
            f"the proxy of {named} cannot be used ({_first_line(error)}): unset it, or name one as http://host:port"
        ) from error


def _of_environment(name: str) -> str:
    return os.environ.get(name.lower()) or os.environ.get(name, "")


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split(". ")[0].split()).rstrip(".") or type(error).__name__
