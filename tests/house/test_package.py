"""The package: built from its own sdist, installed in a fresh environment, imported and run from another folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest

from naming import EXTRAS, __version__, install_command

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("critical_neurons", "flows", "formulation", "naming", "tracing", "training")
HIDDEN = (".git", ".env", ".venv", ".*_cache", ".hypothesis", ".coverage*")
LEFT_OUT = (*HIDDEN, "__pycache__", "mlflow.db*", "mlruns", "mlartifacts", "*.egg-info", "build", "dist", "shared")
pytestmark = pytest.mark.slow


def _build(kind: str, source: Path, target: Path) -> None:
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(target)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked sdist; beside it, in `dist`, the wheel that was built from it."""
    place = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT, place / "project", ignore=shutil.ignore_patterns(*LEFT_OUT))
    _build("sdist", place / "project", place / "dist")
    with tarfile.open(place / "dist" / f"critical_neurons-{__version__}.tar.gz") as archive:
        archive.extractall(place, filter="data")
    source = place / f"critical_neurons-{__version__}"
    _build("wheel", source, place / "dist")
    return source


@pytest.fixture(scope="module")
def environment(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel and nothing else in it."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=True)
    [wheel] = (built.parent / "dist").glob("*.whl")
    command = [place / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run(command, check=True, capture_output=True)
    return place


def _installed(environment: Path, *words: str, folder: Path, whole: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment in another folder; `whole`: with what this environment has installed."""
    ours = ("PYTHON", "MLFLOW", "PREFECT")
    outside = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    if whole:
        outside["PYTHONPATH"] = sysconfig.get_path("purelib")
    program, *rest = words
    return subprocess.run(
        [environment / "bin" / program, *rest], cwd=folder, env=outside, capture_output=True, text=True, check=False
    )


def test_the_sdist_is_a_project_to_run_and_to_test(built: Path) -> None:
    started = ("MLproject", "conda.yaml", "prefect.toml", "prefect.yaml", "compose.yaml", "Dockerfile", ".dockerignore")
    for file in (*started, "requirements.txt", "pyproject.toml"):
        assert (built / file).read_text() == (ROOT / file).read_text()
    assert (built / "tests" / "conftest.py").is_file()


def test_all_that_lies_in_the_rooms_is_installed(environment: Path) -> None:
    [installed] = environment.glob("lib/python*/site-packages")
    for room in ROOMS:
        files = {each.relative_to(ROOT) for each in (ROOT / room).rglob("*") if each.is_file()}
        for file in (each for each in files if "__pycache__" not in each.parts):
            assert (installed / file).read_bytes() == (ROOT / file).read_bytes()


def test_without_an_extra_one_line_names_the_command_that_installs_it(environment: Path, tmp_path: Path) -> None:
    done = _installed(environment, "critical-neurons", "--version", folder=tmp_path, whole=False)
    assert (done.returncode, done.stdout) == (0, f"{__version__}\n")
    done = _installed(environment, "critical-neurons", "main", folder=tmp_path, whole=False)
    assert done.returncode == 2
    assert done.stderr == f"error: pydantic is not installed: {install_command(EXTRAS['pydantic'])}\n"


def test_from_another_folder_everything_is_imported_and_the_command_answers(environment: Path, tmp_path: Path) -> None:
    ask = f"import flows.launch, flows.serving, {', '.join(ROOMS)}; print(*({', '.join(ROOMS)}), sep='\\n')"
    done = _installed(environment, "python", "-c", ask, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(str(environment) in line for line in done.stdout.splitlines())
    done = _installed(environment, "critical-neurons", "--help", folder=tmp_path)
    assert done.returncode == 0
    assert "critical-neurons" in done.stdout
    done = _installed(environment, "critical-neurons", "test", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: the suite of tests belongs to the project's folder")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
