"""Optional packages: which extra of the installation brings each, and the line that says so where one is missing."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

DISTRIBUTION = "critical-neurons"
# Imported name: the extra of pyproject.toml that installs it.
EXTRAS: Mapping[str, str] = {
    **dict.fromkeys(("mlflow", "prefect", "prefect_dask", "distributed", "alembic", "sqlalchemy"), "workflow"),
    **dict.fromkeys(("fastapi", "filelock", "httpx", "jinja2", "matplotlib", "pandas", "psutil"), "workflow"),
    **dict.fromkeys(("pydantic", "tabulate", "threadpoolctl", "psycopg2", "uvicorn"), "workflow"),
    **dict.fromkeys(("pyscipopt",), "solvers"),
    **dict.fromkeys(("onnx", "onnxruntime", "onnxscript"), "export"),
    **dict.fromkeys(("sklearn", "torchvision"), "data"),
    **dict.fromkeys(("pytest", "xdist", "hypothesis"), "dev"),
}


def install_command(extra: str) -> str:
    """The command that installs an extra."""
    return f'pip install "{DISTRIBUTION}[{extra}]"'


def missing_extra(module: str | None) -> str:
    """What to say of a module that is not installed and that an extra would bring; empty where none does.

    Args:
        module: the name that `ModuleNotFoundError.name` holds, with or without submodules.
    """
    package = (module or "").partition(".")[0]
    if package not in EXTRAS:
        return ""
    return f"{package} is not installed: {install_command(EXTRAS[package])}"


def first_missing(*modules: str) -> str:
    """What to say of the first of these modules that is not installed; empty where all are. None is imported."""
    return next((missing_extra(each) for each in modules if find_spec(each) is None), "")
