"""The Prefect server that $PREFECT_API_URL or the active profile names: whether it is there, and where."""

from prefect import get_client
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import PREFECT_API_URL

from flows.errors import ServerError

SECONDS = 5.0
START = "start one with `prefect server start` in another terminal"


def reach_server() -> None:
    """Raise ServerError where a Prefect server is named but does not answer; one that is not named Prefect starts."""
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
    server = SubprocessASGIServer()
    return server.api_url if server.running else ""
