"""Schemas of MLflow's databases: the installed MLflow's own, older and newer ones."""

from functools import cache

import mlflow
import mlflow.store.db.utils as mlflow_databases
from alembic.script import ScriptDirectory

from flows.errors import StoreError


@cache
def revisions() -> tuple[str, ...]:
    """The schemas that the installed MLflow knows, its own first."""
    script = ScriptDirectory.from_config(mlflow_databases._get_alembic_config(""))
    return tuple(each.revision for each in script.walk_revisions())


def require_own(revision: str, complete: bool, store: str) -> None:
    """Raise StoreError where a database that holds something is not of the installed MLflow's schema.

    MLflow would change an older one without a word, and tell a newer one to be upgraded.

    Args:
        revision: the schema that the database says it has; empty: none.
        complete: whether it has all tables.
        store: the address, as it may be shown.
    """
    has = f"tracking store {store} cannot be opened: it has the schema {revision or 'of no version'}"
    version = f"MLflow {mlflow.__version__}"
    if revision and revision not in revisions():
        raise StoreError(f"{has}, which {version} does not know: it is a newer MLflow's; install that, or give another")
    if revision != revisions()[0]:
        raise StoreError(
            f"{has}, of an older MLflow or left half made by one, and holds runs or experiments: back it up and run "
            f"`mlflow db upgrade {store}` with {version}, or give another"
        )
    if not complete:
        raise StoreError(f"{has}, but tables are missing: put back a copy from before, or give another")
