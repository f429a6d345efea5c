"""The project's folder, where the flows run from a checkout, and what stands in its place where they are installed."""

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

from flows.errors import FlowError

INSTALLED = "critical-neurons"  # the command line's name there
ABOVE = Path(__file__).resolve().parents[1]
# What prefect.toml says, which Prefect reads from the folder a flow is started in and from nowhere else.
PREFECT_SETTINGS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_CLIENT_MAX_RETRIES": "3",
    "PREFECT_LOGGING_LEVEL": "WARNING",
}


def checkout() -> Path | None:
    """The folder of the checkout that this code lies in; None where it is installed."""
    return ABOVE if (ABOVE / "MLproject").is_file() and (ABOVE / "pyproject.toml").is_file() else None


def home_of_runs() -> Path:
    """The folder that runs are kept in unless a store is named: the checkout's, else the one a flow is started in."""
    return checkout() or Path.cwd()


def usual_store() -> Path:
    """The file that runs are kept in unless a store is named."""
    return home_of_runs() / "mlflow.db"


def own_command() -> str:
    """How this command line was called: by its installed name, or as the package's."""
    return INSTALLED if Path(sys.argv[0]).name == INSTALLED else "python -m flows"


def require_checkout(what: str) -> Path:
    """The checkout's folder; raises FlowError where the code is installed, saying what needs more than that."""
    if (found := checkout()) is None:
        raise FlowError(
            f"{what} belongs to the project's folder and is not installed: run it in a checkout, by `python -m`"
        )
    return found


def set_prefect_defaults(environment: MutableMapping[str, str] = os.environ, folder: Path | None = None) -> None:
    """Set what prefect.toml would say, where the folder a flow is started in has none; a set variable stays.

    To be called before Prefect is imported and before there are threads.
    """
    if ((folder or Path.cwd()) / "prefect.toml").is_file():
        return
    for name, value in PREFECT_SETTINGS.items():
        environment.setdefault(name, value)
