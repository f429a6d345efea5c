"""Store addresses: which ones runs can be kept in, made absolute, and as they may be shown."""

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from mlflow.environment_variables import MLFLOW_ALLOW_FILE_STORE
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from flows.checkout import usual_store
from flows.errors import SettingsError
from flows.redaction import MARK, is_secret, redacted

SQLITE = "sqlite:///"
HTTP, DATABASES, FOLDERS = ("http", "https"), ("postgresql", "mysql", "mssql"), ("", "file")
DATABRICKS = "databricks"  # MLflow's own, with or without a profile
VARIABLE = "MLFLOW_TRACKING_URI"
EXAMPLES = "sqlite:///mlflow.db, http://host:5000 or postgresql+psycopg2://user@host/name"
LONGEST = 200  # characters of an address that are shown


def store_uri(given: str) -> str:
    """The store's address: as given, else $MLFLOW_TRACKING_URI, else `mlflow.db` in the project's root; absolute.

    Installed there is no such root: the folder that a flow is started in takes its place.

    Raises SettingsError where runs cannot be kept at such an address, its driver is not installed, `mlflow run` has
    opened its run in another store than the one given or has logged a secret of the one given, and for an address as it
    is shown, without its secret.
    """
    if MARK in given:
        raise SettingsError(
            f"tracking_uri={given}: this is what is shown of an address, without its secret; give the address itself, "
            f"best as ${VARIABLE}"
        )
    if os.environ.get("MLFLOW_RUN_ID") and is_secret(given):
        raise SettingsError(
            f"tracking_uri={shown(given)}: mlflow run logs its parameters as they are given, this one's secret too: "
            f"change the secret, and give the address as ${VARIABLE} instead"
        )
    chosen = os.environ.get(VARIABLE, "")
    named, address = ("tracking_uri", given) if given else (VARIABLE, chosen)
    uri = _absolute(named, address or f"{SQLITE}{usual_store()}")
    if given and os.environ.get("MLFLOW_RUN_ID") and uri != _absolute(VARIABLE, chosen):
        raise SettingsError(
            f"tracking_uri={shown(given)}: mlflow run has opened its run in {shown(chosen)}; set {VARIABLE} for it "
            f"instead"
        )
    return uri


def is_sqlite(uri: str) -> bool:
    """Whether an address of :func:`store_uri` is that of a SQLite file."""
    return uri.startswith(SQLITE)


def path_of(uri: str) -> Path:
    """The file of a SQLite address of :func:`store_uri`."""
    return Path(uri.removeprefix(SQLITE))


def scheme_of(uri: str) -> str:
    """The scheme of an address without its driver, in small letters; empty for a path."""
    scheme = re.match(r"([A-Za-z][\w.+-]*):", uri)
    # One letter is a drive of Windows.
    return scheme[1].lower().partition("+")[0] if scheme and len(scheme[1]) > 1 else ""


def shown(uri: str) -> str:
    """An address without its secrets, in one line of limited length: what a person may be told."""
    bare = redacted(" ".join(uri.split()), uri)
    return f"{bare[:LONGEST]}..." if len(bare) > LONGEST else bare


def _absolute(named: str, uri: str) -> str:
    kind, what = scheme_of(uri), f"{named}={shown(uri)}"
    if kind == "sqlite":
        return f"{SQLITE}{_file(what, uri)}"
    if kind in HTTP:
        _require_host(what, uri)
    elif kind in DATABASES:
        _require_driver(what, uri)
    elif kind in FOLDERS and uri != DATABRICKS and not MLFLOW_ALLOW_FILE_STORE.get():
        path = re.sub("^file:(//)?", "", uri).rstrip("/") or "."
        example = path if path.endswith((".db", ".sqlite")) else f"{path}/mlflow.db"
        raise SettingsError(
            f"{what}: MLflow keeps runs in folders no longer: give a database, such as sqlite:///{example}"
        )
    elif kind not in (*FOLDERS, DATABRICKS):
        raise SettingsError(f"{what}: MLflow keeps no runs in a store of kind {kind!r}; give {EXAMPLES}")
    return uri


def _file(what: str, uri: str) -> Path:
    written = uri.removeprefix(SQLITE)
    if not uri.startswith(SQLITE) and "///" in uri:
        raise SettingsError(f"{what}: write it as {SQLITE}{uri.partition('///')[2]}")
    if not uri.startswith(SQLITE) or written in ("", ":memory:"):
        raise SettingsError(f"{what} names no file that runs could be kept in: write it as {SQLITE}mlflow.db")
    if "?" in written or written.startswith("file:"):
        raise SettingsError(f"{what}: a sqlite address is a path alone, without `?` and options: {SQLITE}mlflow.db")
    if written.startswith("~"):
        raise SettingsError(f"{what}: `~` would be a folder of that name; write {SQLITE}{Path.home()}{written[1:]}")
    if written.endswith(("/", "/.", "/..")):
        raise SettingsError(f"{what} names a folder: give a file in it, such as {SQLITE}{written}/mlflow.db")
    try:
        return Path(written).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise SettingsError(f"{what}: no such path can be ({' '.join(str(error).split())})") from error


def _require_host(what: str, uri: str) -> None:
    try:
        parts = urlsplit(uri)
        found = parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError as error:
        raise SettingsError(f"{what} is no address of a server ({error}): write it as http://host:5000") from error
    if not found or not uri.isprintable() or " " in uri:
        raise SettingsError(f"{what} is no address of a server: write it as http://host:5000")


def _require_driver(what: str, uri: str) -> None:
    try:
        dialect = make_url(uri).get_dialect()
        dialect.import_dbapi()
    except NoSuchModuleError as error:
        raise SettingsError(
            f"{what}: SQLAlchemy knows no such driver; write it as postgresql+psycopg2://..."
        ) from error
    except (ArgumentError, ValueError) as error:
        raise SettingsError(
            f"{what} is no address of a database: write it as postgresql+psycopg2://user@host/name"
        ) from error
    except ImportError as error:
        raise SettingsError(
            f"{what}: its driver is not installed ({error}); install it, or name another as in "
            f"postgresql+psycopg2://..., whose driver is"
        ) from error
    if dialect.is_async:
        raise SettingsError(f"{what}: MLflow takes no asynchronous driver; write it as postgresql+psycopg2://...")
