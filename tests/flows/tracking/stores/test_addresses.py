"""Store addresses: each one that runs cannot be kept in is refused in one line with the remedy, and nothing is made."""

from pathlib import Path

import pytest

from flows import tracking
from flows.__main__ import main
from flows.errors import SettingsError
from flows.tracking.stores.addresses import shown

REFUSED = {
    "sqlite:///:memory:": "names no file that runs could be kept in: write it as sqlite:///mlflow.db",
    "sqlite://": "names no file",
    "sqlite:///": "names no file",
    "sqlite:": "names no file",
    "sqlite:mlflow.db": "names no file",
    "sqlite:/mlflow.db": "names no file",
    "sqlite://mlflow.db": "names no file",
    "SQLITE:///mlflow.db": "write it as sqlite:///mlflow.db",
    "sqlite+pysqlite:///mlflow.db": "write it as sqlite:///mlflow.db",
    "sqlite+nothing:///mlflow.db": "write it as sqlite:///mlflow.db",
    "sqlite:///mlflow.db?mode=ro": "a path alone, without `?` and options",
    "sqlite:///file:mlflow.db?uri=true": "a path alone",
    "sqlite:///file::memory:": "a path alone",
    "sqlite:///~/mlflow.db": "`~` would be a folder of that name",
    "sqlite:///runs/": "names a folder: give a file in it",
    "sqlite:///a\0b": "no such path can be",
    "file:": "MLflow keeps runs in folders no longer: give a database, such as sqlite:///./mlflow.db",
    "file:///somewhere/mlruns": "such as sqlite:////somewhere/mlruns/mlflow.db",
    "mlruns": "such as sqlite:///mlruns/mlflow.db",
    "./mlflow.db": "such as sqlite:///./mlflow.db",
    "C:\\mlruns": "MLflow keeps runs in folders no longer",
    "ftp://host/mlruns": "MLflow keeps no runs in a store of kind 'ftp'",
    "s3://bucket/mlruns": "of kind 's3'",
    "postgres://host/mlflow": "of kind 'postgres'; give sqlite:///mlflow.db, http://host:5000 or postgresql+psycopg2",
    "oracle://host/mlflow": "of kind 'oracle'",
    "uc:catalog": "of kind 'uc'",
    "http://": "is no address of a server",
    "http:///mlflow": "is no address of a server",
    "http://[::1": "is no address of a server",
    "http://host:99999": "is no address of a server",
    "http://host:port": "is no address of a server",
    "http://host:0": "is no address of a server",
    "http://ho st:5000": "is no address of a server",
    "postgresql": "MLflow keeps runs in folders no longer",
    "postgresql:": "is no address of a database",
    "postgresql+psycopg2://host:port/mlflow": "is no address of a database",
    "postgresql+nothing://host/mlflow": "SQLAlchemy knows no such driver",
    "postgresql://host/mlflow": "its driver is not installed (No module named 'psycopg')",
    "postgresql+asyncpg://host/mlflow": "MLflow takes no asynchronous driver",
    "mysql://host/mlflow": "its driver is not installed",
    "mysql+pymysql://host/mlflow": "its driver is not installed (No module named 'pymysql')",
    "mssql+pyodbc://host/mlflow": "its driver is not installed",
    " sqlite:///mlflow.db": "MLflow keeps runs in folders no longer",
}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("uri", "what"), REFUSED.items(), ids=[repr(uri) for uri in REFUSED])
def test_an_address_at_which_no_runs_can_be_kept_is_refused_in_one_line(uri: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        tracking.store_uri(uri)
    said = str(caught.value)
    assert said.startswith("tracking_uri=")
    assert what in said
    assert "\n" not in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "uri",
    ["sqlite:///:memory:", "file:", "postgresql://host/mlflow", "http://127.0.0.1:9", "sqlite:////proc/x/mlflow.db"],
)
def test_a_command_with_such_a_store_ends_in_one_line_with_code_2(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--cache", "none", "--epochs", "1", "--tracking_uri", uri]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_address_of_the_environment_is_refused_by_the_variables_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///:memory:")
    with pytest.raises(SettingsError, match=r"^MLFLOW_TRACKING_URI=sqlite:///:memory: names no file"):
        tracking.store_uri("")


def test_addresses_that_name_a_store_are_taken_and_a_files_made_absolute(tmp_path: Path) -> None:
    assert tracking.store_uri("sqlite:///runs/mlflow.db") == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert tracking.store_uri(f"sqlite:///{tmp_path}/a b%20é#.db") == f"sqlite:///{tmp_path}/a b%20é#.db"
    for uri in (
        "http://host:5000",
        "HTTPS://user:secret@host/mlflow",
        "http://[::1]:5000",
        "postgresql+psycopg2://user:secret@host:5432/mlflow",
        "databricks",
        "databricks://profile",
    ):
        assert tracking.store_uri(uri) == uri


def test_a_folder_is_taken_where_mlflow_has_been_told_to_keep_runs_in_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert tracking.store_uri("file:///somewhere/mlruns") == "file:///somewhere/mlruns"


def test_neither_a_user_nor_a_password_nor_the_value_of_a_query_is_shown() -> None:
    assert shown("postgresql+psycopg2://user:se/cr@et@host/mlflow?password=x") == (
        "postgresql+psycopg2://***@host/mlflow?password=***"
    )
    assert shown("http://user:secret@host:5000/path?token=x") == "http://***@host:5000/path?token=***"
    assert shown("http://user@host") == "http://***@host"  # a token is spelt so
    assert shown("sqlite:////some/where@home:1/mlflow.db") == "sqlite:////some/where@home:1/mlflow.db"
    assert len(shown("http://" + "x" * 10_000)) < 300
