"""Prefect server: the named one, whether it is there, and what is said of one that goes away."""

import os

import httpx
from prefect import get_client
from prefect.settings import PREFECT_API_URL

from flows.errors import ServerError
from flows.own_server import START, own_server_address
from flows.redaction import redacted

SECONDS = 5.0
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
DIRECT = ("localhost", "127.0.0.1", "::1")  # what no proxy is asked for: servers of this machine


def reach_server() -> None:
    """Raise ServerError where a Prefect server is named but does not answer."""
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
    """The address of the named Prefect server, else of the one that was started for this process; or empty."""
    return str(PREFECT_API_URL.value() or own_server_address())


def went_away(reason: str, store: str) -> str:
    """What to say of a server that went away in the middle of a flow that is tracked in a store."""
    # Tasks go on without the server: what fails is to tell it how a flow begins or ends.
    which = "of this process" if own_server_address() else PREFECT_API_URL.value() or "of this process"
    return (
        f"Prefect server {which} went away in the middle ({reason}): what was "
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
