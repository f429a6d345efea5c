"""Connection check: whether a store answers within seconds, asked before MLflow's own attempts, which take minutes."""

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread

import sqlalchemy
from alembic.migration import MigrationContext
from mlflow.exceptions import MlflowException
from mlflow.store.db.base_sql_model import Base
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request
from sqlalchemy.exc import SQLAlchemyError

from flows.errors import StoreError
from flows.redaction import reason_of
from flows.tracking.stores.addresses import DATABASES, HTTP, scheme_of, shown
from flows.tracking.stores.schemas import require_own

SECONDS = 10.0  # in which a server must answer, name look-up and log-in included
FAULTS = (MlflowException, SQLAlchemyError, OSError, ValueError, TypeError, StoreError)


def require_answer(uri: str) -> None:
    """Raise StoreError where a server or a database server does not answer in time, or lets nobody in.

    A database of another MLflow's schema is refused as well; nothing is written.
    """
    ask = _ask_server if scheme_of(uri) in HTTP else _ask_database if scheme_of(uri) in DATABASES else None
    if ask is None:
        return
    answers: SimpleQueue[Exception | None] = SimpleQueue()
    # Neither the look-up of a name nor every driver knows a limit: who still waits is left to itself.
    Thread(target=_answer, args=(ask, uri, answers), daemon=True).start()
    try:
        error = answers.get(timeout=SECONDS)
    except Empty as late:
        raise _refused(uri, f"it does not answer within {SECONDS:g} s") from late
    if isinstance(error, StoreError):
        raise error
    if error is not None:
        raise _refused(uri, reason_of(error, uri)) from error


def _answer(ask: Callable[[str], None], uri: str, answers: "SimpleQueue[Exception | None]") -> None:
    try:
        ask(uri)
    except FAULTS as error:
        answers.put(error)
    else:
        answers.put(None)


def _ask_server(uri: str) -> None:
    # Any answer will do: what is wrong with it, MLflow says.
    http_request(get_default_host_creds(uri), "/health", "GET", max_retries=0, timeout=SECONDS, raise_on_status=False)


def _ask_database(uri: str) -> None:
    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        tables = set(sqlalchemy.inspect(connection).get_table_names())
        revision = MigrationContext.configure(connection).get_current_revision() or ""
    # Without a schema MLflow makes it, or goes on making it.
    if revision:
        require_own(revision, tables >= set(Base.metadata.tables), shown(uri))


def _refused(uri: str, reason: str) -> StoreError:
    return StoreError(f"tracking store {shown(uri)} cannot be opened: {reason}; see tracking_uri")
