"""Commands in the pages: parsed by the command lines that they are for, in this process, without being run."""

import importlib.util
import re
import shlex
import tomllib
from collections.abc import Sequence
from pathlib import Path

import mlflow.cli
import pytest

from flows.config.command_line import settings_of, words_of
from flows.config.entry_points import ENTRY_POINTS, entry_point
from flows.errors import SettingsError

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SOME_RUN = "0" * 32
# What stands for something else in a command: an id, a flow, a folder, `name=value`.
PLACEHOLDERS = {"<id>": SOME_RUN, "<run id>": SOME_RUN, "<flow>": "main"}
INLINE = re.compile(r"`((?:[A-Z_]+=<[^>]+> )?(?:mlflow run \.|python -m |critical-neurons |-[Pe] )[^`]*)`")
ASSIGNMENT = re.compile(r"[A-Z_]+=")

# Programs whose words are not parsed, and why not.
NOT_PARSED = {
    "apt-get": "Debian's",
    "createdb": "PostgreSQL's, as its own user",
    "createuser": "PostgreSQL's, as its own user",
    "dask": "tests/flows/execution/runners/clusters.py starts scheduler and workers so",
    "export": "a variable of the shell",
    "jupyter": "tests/pages/test_notebooks.py runs the notebooks without it",
    "mkdocs": "tests/pages/test_site.py runs this command",
    "pre-commit": "of who works on the project; tests/house/test_tools.py runs its list",
    "prefect": "tests/flows/pipelines/test_deployment_processes.py runs these commands",
    "psql": "PostgreSQL's, as its own user",
    "source": "of the shell",
}


class Wrong(Exception):
    """A command that its command line would not take."""


def commands_of(page: Path) -> list[str]:
    """The commands of a page: lines of its blocks of bash, and what its text quotes."""
    text = page.read_text()
    lines = [line for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in joined(block).splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [line for line in lines if line.strip()] + [each.replace("\n", " ") for each in INLINE.findall(prose)]


def joined(block: str) -> str:
    return re.sub(r"\\\n\s*", "", block)


def parse(command: str) -> list[str]:
    """Parse every program of a command line; their names. Raises Wrong for what a program would not take."""
    for word, value in PLACEHOLDERS.items():
        command = command.replace(word, value)
    words = shlex.split(re.sub(r"<[^>]*>", "PLACE", command), comments=True)
    return [name for part in parts(words) if (name := program(part))]


def parts(words: Sequence[str]) -> list[list[str]]:
    """The programs of a command line with their words; variables before them and redirections are left out."""
    found: list[list[str]] = [[]]
    for word in words:
        if word in ("&&", "&", "|", ";"):
            found.append([])
        else:
            found[-1].append(word)
    return [part for part in found if part]


def program(words: Sequence[str]) -> str:
    """Parse one program's words; its name."""
    while words and (ASSIGNMENT.match(words[0]) or words[0] in ("nohup", "runuser", "-u", "postgres", "--")):
        words = words[1:]
    match words:
        case []:
            return ""
        case ["mlflow", name, *rest]:
            mlflow_words(name, rest)
        case ["critical-neurons" | "flows", *rest] | ["python", "-m", "flows", *rest]:
            flow_words(rest)
        case ["-e", *_]:
            mlflow_words("run", [".", *words])
        case ["-P", *_]:
            setting_words(words[1::2])
        case ["python" | "python3.11", "-m", "venv", *_]:
            pass
        case ["pytest", *rest] | ["python", "-m", "pytest", *rest]:
            pytest_words(rest)
        case ["python", "-m", module, *rest]:
            module_words(module, rest)
        case ["pip", "install", *rest]:
            pip_words(rest)
        case [name, *_] if name not in NOT_PARSED:
            raise Wrong(f"{name}: parse it here, or say in NOT_PARSED why not")
    return words[0]


def mlflow_words(name: str, words: Sequence[str]) -> None:
    group = mlflow.cli.cli
    command = group.get_command(mlflow.cli.click.Context(group), name)
    if command is None:
        raise Wrong(f"mlflow has no command {name!r}")
    try:
        given = command.make_context(name, list(words)).params
    except mlflow.cli.click.ClickException as error:
        raise Wrong(f"mlflow {name}: {error.format_message()}") from error
    if name == "run":
        flow_words([given["entry_point"], *(f"--{each}" for each in given["param_list"])])


def setting_words(pairs: Sequence[str]) -> None:
    """Settings quoted alone: those of any flow that takes them all."""
    names = {each.partition("=")[0] for each in pairs} - {"name"}
    takers = [point.name for point in ENTRY_POINTS.values() if names <= set(point.accepted)]
    flow_words([(takers or ["main"])[0], *(f"--{each}" for each in pairs if each != "name=value")])


def flow_words(words: Sequence[str]) -> None:
    match words:
        case [] | ["--completion" | "--version" | "--help", *_] | [_, "--help"]:
            return
    try:
        point = entry_point(words[0])
        settings_of(words_of(point, with_run(words[1:]) if point.after else words[1:]))
    except SettingsError as error:
        raise Wrong(str(error)) from error


def with_run(words: Sequence[str]) -> list[str]:
    return list(words) if any(word.startswith("--run_id") for word in words) else [*words, f"--run_id={SOME_RUN}"]


def module_words(module: str, words: Sequence[str]) -> None:
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        raise Wrong(f"no module {module!r}")
    text = Path(found.origin).read_text()
    for name in re.findall(r"from (benchmarks[\w.]*) import", text):
        spec = importlib.util.find_spec(name)
        text += Path(spec.origin).read_text() if spec and spec.origin else ""
    if unknown := [word for word in words if word.startswith("--") and f'"{word}"' not in text]:
        raise Wrong(f"{module} takes no {unknown[0]}")


def pip_words(words: Sequence[str]) -> None:
    for k, word in enumerate(words):
        if word == "-r" and not (ROOT / words[k + 1]).is_file():
            raise Wrong(f"no file {words[k + 1]}")
        extras = re.fullmatch(r"\.\[([\w,-]+)\]", word)
        if extras and (unknown := set(extras[1].split(",")) - set(PROJECT["project"]["optional-dependencies"])):
            raise Wrong(f"no extra {unknown}")


def pytest_words(words: Sequence[str]) -> None:
    options = PROJECT["tool"]["pytest"]["ini_options"]
    markers = {each.split(":")[0] for each in options["markers"]} | {"not", "and", "or"}
    for k, word in enumerate(words):
        if word == "-m":
            if unknown := set(words[k + 1].split()) - markers:
                raise Wrong(f"no marker {unknown}")
        elif not word.startswith("-") and (k == 0 or words[k - 1] != "-m") and not (ROOT / word).exists():
            raise Wrong(f"no file {word}")


FOUND = {page: commands_of(page) for page in PAGES}


@pytest.mark.parametrize("page", [page for page in PAGES if FOUND[page]], ids=lambda page: str(page.relative_to(ROOT)))
def test_a_command_of_a_page_is_taken_by_its_command_line(page: Path) -> None:
    for command in FOUND[page]:
        parse(command)


def test_what_is_not_parsed_stands_in_some_page() -> None:
    named = {name for commands in FOUND.values() for command in commands for name in parse(command)}
    assert set(NOT_PARSED) <= named
    assert {"mlflow", "python", "pip"} <= named


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("mlflow run . --env-manger uv", "--env-manger"),
        ("mlflow run . -e mian", "unknown flow 'mian'"),
        ("mlflow run . -P epoch=3", "unknown parameter 'epoch'"),
        ("-P rule=l2_nrom -P selection=share", "rule=l2_nrom"),
        ("-P suite=all -P epochs=3", "takes no parameter 'suite'"),
        ("mlflow run . -e prune -P epochs=3", "takes no parameter 'epochs'"),
        ("pip install x && python -m flows main --gate linaer", "gate=linaer"),
        ("python -m flows main --epochs", "epochs has no value"),
        ("A=b critical-neurons trian", "unknown flow 'trian'"),
        ("DATA_ROOT=<folder> python -m benchmarks.rankings", "no module"),
        ("python -m benchmarks.ranking --nothing 3", "takes no --nothing"),
        ("mlflow iu", "no command 'iu'"),
        ("pip install -r requirement.txt", "no file"),
        ('pip install ".[flow]"', "no extra"),
        ('pytest -m "not fast"', "no marker"),
        ("pytest tests/nowhere", "no file"),
        ("conda env create", "conda: parse it here"),
    ],
)
def test_a_command_that_would_be_refused_is_found(command: str, said: str) -> None:
    with pytest.raises(Wrong, match=re.escape(said)):
        parse(command)


def test_commands_are_found_in_blocks_and_in_the_text(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "`python -m flows\nmain` and `-P gate=linear`\n\n```bash\nmlflow run . \\\n    -P gate=exact\n```\n"
    )
    assert commands_of(page) == ["mlflow run . -P gate=exact", "python -m flows main", "-P gate=linear"]
