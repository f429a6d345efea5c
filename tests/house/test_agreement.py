"""MLproject, conda.yaml, requirements.txt, pyproject.toml, README.md and the settings say the same."""

import ast
import re
import sys
import tomllib
from importlib.metadata import version
from itertools import product
from pathlib import Path

import pytest
import yaml

from benchmarks import compaction, main_job
from flows.entry_points import ENTRY_POINTS
from flows.pipeline import FLOWS
from flows.settings import Settings
from flows.words import settings_of

ROOT = Path(__file__).resolve().parents[2]
MLPROJECT = yaml.safe_load((ROOT / "MLproject").read_text())


def _pins(file: str) -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    return dict(line.split("==") for line in lines if "==" in line)


PINS = _pins("requirements.txt")


def test_mlproject_has_the_entry_points_of_the_command_line() -> None:
    assert list(MLPROJECT["entry_points"]) == list(ENTRY_POINTS)


@pytest.mark.parametrize("point", ENTRY_POINTS.values(), ids=lambda point: point.name)
def test_an_entry_point_has_the_parameters_and_defaults_of_the_settings(point) -> None:
    declared = MLPROJECT["entry_points"][point.name]
    assert list(declared["parameters"]) == list(point.own)
    words = {name: str(given["default"]) for name, given in declared["parameters"].items() if "default" in given}
    assert set(point.own) - set(words) == ({"run_id"} if point.after else set())
    assert settings_of(words) == Settings(**point.defaults)
    for name, given in declared["parameters"].items():
        assert given["type"] == ("float" if _is_number(name) else "string")


@pytest.mark.parametrize("point", ENTRY_POINTS.values(), ids=lambda point: point.name)
def test_an_entry_point_hands_every_parameter_to_the_command_line(point) -> None:
    words = " ".join(f"--{name} {{{name}}}" for name in point.own)
    assert MLPROJECT["entry_points"][point.name]["command"] == f"python -m flows {point.name} {words}"


def test_every_flow_is_deployed_under_its_own_name() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert {each["name"]: each["entrypoint"] for each in deployments} == {
        name: f"flows.deployed.{name}" for name in FLOWS
    }


def test_the_deployments_ask_for_the_pinned_prefect() -> None:
    assert yaml.safe_load((ROOT / "prefect.yaml").read_text())["prefect-version"] == PINS["prefect"]


def test_a_setting_belongs_to_some_entry_point() -> None:
    used = {name for point in ENTRY_POINTS.values() for name in point.accepted}
    assert used == set(Settings.model_fields)


def test_the_environment_is_made_from_requirements_alone() -> None:
    environment = yaml.safe_load((ROOT / "conda.yaml").read_text())
    assert environment["dependencies"] == ["python=3.11", "pip", {"pip": ["-r requirements.txt"]}]
    assert MLPROJECT["conda_env"] == "conda.yaml"
    # MLflow refuses both at once.
    assert "python_env" not in MLPROJECT


def test_pyproject_takes_the_same_python_and_the_same_requirements() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["requires-python"] == "==3.11.*"
    assert project["tool"]["setuptools"]["dynamic"]["dependencies"] == {"file": ["requirements.txt"]}
    assert "dependencies" not in project["project"]


@pytest.mark.parametrize(("name", "pin"), PINS.items())
def test_what_is_installed_is_what_is_pinned(name: str, pin: str) -> None:
    assert version(name).split("+")[0] == pin


def test_everything_imported_by_name_is_pinned() -> None:
    rooms = {room: set(PINS) for room in ("flows", "formulation", "training", "tests")}
    # what a benchmark compares with is no part of the project: requirements-dev.txt
    rooms["benchmarks"] = set(PINS) | set(_pins("requirements-dev.txt"))
    distributions = {"PIL": "pillow", "prefect_dask": "prefect-dask", "sklearn": "scikit-learn", "yaml": "pyyaml"}
    for room, pinned in rooms.items():
        imported = {name.split(".")[0] for path in (ROOT / room).rglob("*.py") for name in _imported(path)}
        foreign = {
            distributions.get(name, name)
            for name in imported
            if name not in sys.stdlib_module_names and not (ROOT / name).is_dir()
        }
        assert foreign <= pinned


def test_the_development_extra_stands_on_the_requirements() -> None:
    assert "-r requirements.txt" in (ROOT / "requirements-dev.txt").read_text().splitlines()
    assert not set(_pins("requirements-dev.txt")) & set(PINS)


def test_the_readme_installs_the_pinned_mlflow_and_names_both_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert f'pip install "mlflow=={PINS["mlflow"]}" uv && mlflow run . --env-manager uv' in readme
    assert "mlflow run . -e test --env-manager uv" in readme
    assert f'"mlflow=={PINS["mlflow"]}"' in (ROOT / ".ci" / "run").read_text()


def test_the_readme_has_a_row_for_every_setting() -> None:
    readme = (ROOT / "README.md").read_text()
    for name in Settings.model_fields:
        assert f"| `{name}` |" in readme


def _imported(path: Path) -> list[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return plain + [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]


def _is_number(name: str) -> bool:
    default = Settings.model_fields[name].default
    return isinstance(default, int | float) and not isinstance(default, bool)


def test_the_measured_table_is_what_its_command_prints() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    start = lines.index(main_job.head()[0])
    assert lines[start + 1] == main_job.head()[1]
    shown = lines[start + 2 : start + 2 + len(main_job.MODELS) * len(main_job.DATASETS)]
    for line, (model, dataset) in zip(shown, product(main_job.MODELS, main_job.DATASETS), strict=True):
        assert line == main_job.row(model, dataset, _metrics_in(line))


def _metrics_in(line: str) -> dict[str, float]:
    names = re.findall(r"{(\w+)", "".join(main_job.COLUMNS.values()))
    figures = map(float, re.findall(r"[\d.]+", line.split("|", 2)[2]))
    pairs = zip(names, figures, strict=True)
    return {name: figure if name.startswith("seconds_") else figure / 100 for name, figure in pairs}


def test_the_table_of_compaction_has_the_lines_that_its_command_prints() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    start = lines.index(compaction.head()[0])
    assert lines[start + 1] == compaction.head()[1]
    shown = lines[start + 2 : start + 2 + len(compaction.FIGURES)]
    assert [line.split(" | ")[0] for line in shown] == [f"| {figure}" for figure in compaction.FIGURES]
    assert {line.count("|") for line in shown} == {compaction.head()[1].count("|")}
