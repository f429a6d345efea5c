"""Generated files are fresh; conda.yaml, requirements.txt, pyproject.toml, README.md and the pages of results agree."""

import ast
import re
import sys
import tomllib
from importlib.metadata import version
from itertools import chain, product
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from benchmarks import compaction, main_job
from flows.checkout import PREFECT_SETTINGS
from flows.config import generate
from flows.config.command_line import settings_of
from flows.config.entry_points import ENTRY_POINTS, EntryPoint
from flows.config.settings import GROUPS, Settings
from flows.pipelines.flows import FLOWS
from naming import EXTRAS

ROOT = Path(__file__).resolve().parents[2]
MLPROJECT = yaml.safe_load((ROOT / "MLproject").read_text())


def _pins(file: str) -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in (ROOT / file).read_text().splitlines()]
    return dict(line.split("==") for line in lines if "==" in line)


ROOMS = ("critical_neurons", "flows", "formulation", "naming", "tracing", "training")
PINS = _pins("requirements.txt")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CORE, OPTIONAL = PROJECT["dependencies"], PROJECT["optional-dependencies"]
# What one benchmark compares with, and one kind of checkpoint.
WITHOUT_EXTRA = ("clarabel", "cvxpy", "safetensors", "torch-pruning")
DISTRIBUTIONS = {
    **{"PIL": "pillow", "prefect_dask": "prefect-dask", "psycopg2": "psycopg2-binary", "sklearn": "scikit-learn"},
    **{"torch_pruning": "torch-pruning", "xdist": "pytest-xdist", "yaml": "pyyaml"},
}


def test_mlproject_has_the_entry_points_of_the_command_line() -> None:
    assert list(MLPROJECT["entry_points"]) == list(ENTRY_POINTS)


@pytest.mark.parametrize("file", generate.documents())
def test_a_generated_file_says_what_the_settings_say(file: str) -> None:
    assert file not in generate.stale(), f"{file} is stale: `{generate.COMMAND}` renews it"


@pytest.mark.parametrize("point", ENTRY_POINTS.values(), ids=lambda point: point.name)
def test_mlproject_hands_an_entry_points_own_parameters_and_defaults_to_the_command_line(point: EntryPoint) -> None:
    declared = MLPROJECT["entry_points"][point.name]
    assert list(declared["parameters"]) == list(point.own)
    words = " ".join(f"--{name} {{{name}}}" for name in point.own)
    assert declared["command"] == f"python -m flows {point.name} {words}"
    given = {name: str(each["default"]) for name, each in declared["parameters"].items() if "default" in each}
    assert set(point.own) - set(given) == ({"run_id"} if point.after else set())
    assert settings_of(given) == Settings(**point.defaults)


def test_every_flow_is_deployed_under_its_own_name() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert {each["name"]: each["entrypoint"] for each in deployments} == {
        name: f"flows.pipelines.deployments.{name}" for name in FLOWS
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


def test_the_packages_ranges_hold_what_is_pinned_and_nothing_else_is_pinned() -> None:
    ranges = [each for each in map(Requirement, chain(CORE, *OPTIONAL.values())) if each.name != PROJECT["name"]]
    pins = {name: pin for name, pin in (PINS | _pins("requirements-dev.txt")).items() if name not in WITHOUT_EXTRA}
    assert sorted(each.name for each in ranges) == sorted(pins)
    assert [str(each) for each in ranges if not each.specifier.contains(pins[each.name])] == []
    assert SpecifierSet(PROJECT["requires-python"]).contains("3.11")


def test_the_libraries_import_the_core_alone_and_name_the_extra_of_what_more_they_use() -> None:
    core = {Requirement(each).name for each in CORE}
    extras = {Requirement(each).name: extra for extra, names in OPTIONAL.items() for each in names}
    named = {DISTRIBUTIONS.get(module, module): extra for module, extra in EXTRAS.items()}
    for name, extra in named.items():
        assert extras[name] == extra
    for room in ROOMS:
        assert _foreign(room) <= core | set(named)


def test_what_prefect_reads_from_its_file_is_set_where_there_is_no_file() -> None:
    def flat(words: str, value: object) -> dict[str, str]:
        if not isinstance(value, dict):
            return {words.upper(): str(value).lower() if isinstance(value, bool) else str(value)}
        return {name: each for key, part in value.items() for name, each in flat(f"{words}_{key}", part).items()}

    assert flat("prefect", tomllib.loads((ROOT / "prefect.toml").read_text())) == PREFECT_SETTINGS


@pytest.mark.parametrize(("name", "pin"), PINS.items())
def test_what_is_installed_is_what_is_pinned(name: str, pin: str) -> None:
    assert version(name).split("+")[0] == pin


def test_everything_imported_by_name_is_pinned() -> None:
    rooms = {room: set(PINS) for room in (*ROOMS, "tests")}
    # what a benchmark compares with is no part of the project: requirements-dev.txt
    rooms["benchmarks"] = set(PINS) | set(_pins("requirements-dev.txt"))
    for room, pinned in rooms.items():
        assert _foreign(room) <= pinned


def test_the_development_extra_stands_on_the_requirements() -> None:
    assert "-r requirements.txt" in (ROOT / "requirements-dev.txt").read_text().splitlines()
    assert not set(_pins("requirements-dev.txt")) & set(PINS)


def test_the_readme_installs_the_pinned_mlflow_and_names_both_commands() -> None:
    readme = (ROOT / "README.md").read_text()
    assert f'pip install "mlflow=={PINS["mlflow"]}" uv && mlflow run . --env-manager uv' in readme
    assert "mlflow run . -e test --env-manager uv" in readme
    assert f'"mlflow=={PINS["mlflow"]}"' in (ROOT / ".ci" / "run").read_text()


def test_the_page_of_parameters_has_a_row_for_every_setting_and_the_readme_leads_to_it() -> None:
    page = (ROOT / "docs" / "parameters.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE)
    assert sorted(rows) == sorted(Settings.model_fields)
    assert "(docs/parameters.md)" in (ROOT / "README.md").read_text()


def test_a_setting_stands_in_one_group() -> None:
    assert sorted(name for group in GROUPS for name in group.model_fields) == sorted(Settings.model_fields)


def _foreign(room: str) -> set[str]:
    """The distributions that a room imports, at whatever place."""
    imported = {name.split(".")[0] for path in (ROOT / room).rglob("*.py") for name in _imported(path)}
    foreign = {name for name in imported if name not in sys.stdlib_module_names and not (ROOT / name).is_dir()}
    return {DISTRIBUTIONS.get(name, name) for name in foreign}


def _imported(path: Path) -> list[str]:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return plain + [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]


def test_the_measured_table_is_what_its_command_prints() -> None:
    lines = (ROOT / "docs" / "results" / "main-job.md").read_text().splitlines()
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
    lines = (ROOT / "docs" / "results" / "compaction.md").read_text().splitlines()
    start = lines.index(compaction.head()[0])
    assert lines[start + 1] == compaction.head()[1]
    shown = lines[start + 2 : start + 2 + len(compaction.FIGURES)]
    assert [line.split(" | ")[0] for line in shown] == [f"| {figure}" for figure in compaction.FIGURES]
    assert {line.count("|") for line in shown} == {compaction.head()[1].count("|")}
