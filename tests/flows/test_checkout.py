"""The project's folder: found in a checkout, named in one line where only the packages are installed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.checkout import PREFECT_SETTINGS, checkout, home_of_runs, set_prefect_defaults

ROOT = Path(__file__).resolve().parents[2]


def test_in_a_checkout_runs_are_kept_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert checkout() == home_of_runs() == ROOT


def test_installed_runs_are_kept_where_a_flow_is_started_and_other_files_are_asked_for_in_one_line(
    tmp_path: Path,
) -> None:
    for room in ("flows", "naming"):
        shutil.copytree(ROOT / room, tmp_path / "site" / room, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "here").mkdir()
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "from flows.checkout import home_of_runs; print(home_of_runs())\n"
        "from flows.config import generate; sys.exit(generate.generate(['--check']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "here", capture_output=True, text=True, check=False
    )
    assert done.stdout == f"{tmp_path / 'here'}\n"
    assert done.returncode == 2
    assert done.stderr.startswith("error: python -m flows.config.generate belongs to the project's folder")
    assert done.stderr.count("\n") == 1


def test_prefect_gets_its_defaults_where_there_is_no_file_of_them_and_a_set_variable_stays(tmp_path: Path) -> None:
    environment = {"PREFECT_LOGGING_LEVEL": "DEBUG"}
    set_prefect_defaults(environment, tmp_path)
    assert environment == PREFECT_SETTINGS | {"PREFECT_LOGGING_LEVEL": "DEBUG"}
    environment = {}
    set_prefect_defaults(environment, ROOT)
    assert environment == {}
