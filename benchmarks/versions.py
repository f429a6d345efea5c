"""Other versions of Python and of the packages: does the project install, import, pass its tests and run with them?

    python -m benchmarks.versions --place <folder> [--only newest lowest] [--python <interpreter> ...]

Environments are made by uv in the folder: *newest* has the newest releases, without the upper ends of the ranges of
`pyproject.toml`, *lowest* the oldest that they allow, and each `--python` (an interpreter, such as
`/usr/bin/python3.13`) what pip would choose. In each the rooms are imported, quick tests are run (`--tests` names
others), and a small main job. A line per environment; what fails is named below the table. Results are kept in the
folder: the same command goes on where it was left. Exit code 0 where nothing fails.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = "import critical_neurons, formulation, training, flows.launch, flows.serving"
TESTS = ("tests/critical_neurons", "tests/formulation/solve", "tests/formulation/verify", "tests/training/pruning")
SMALL = ("--model", "fc2", "--epochs", "2", "--images_per_class", "2", "--draws", "2", "--cache", "none")
SHOWN = ("torch", "numpy", "linopy", "highspy", "mlflow", "prefect")
NEWEST, LOWEST = "newest", "lowest"
HEAD = (
    "| environment | Python | " + " | ".join(SHOWN) + " | imports | tests | main job |",
    "|---" * (len(SHOWN) + 5) + "|",
)


@dataclass(frozen=True)
class Tried:
    """One environment: its versions, and what held in it.

    Attributes:
        name: newest, lowest or an interpreter.
        python: its version.
        versions: of every package that the project names.
        imports: whether all rooms could be imported.
        tests: the last line of pytest.
        main: the exit code of the main job.
        said: the ends of the outputs of whatever failed.
    """

    name: str
    python: str = "-"
    versions: Mapping[str, str] | None = None
    imports: bool = False
    tests: str = "-"
    main: int | None = None
    said: Sequence[str] = ()

    def row(self) -> str:
        """The table's line."""
        shown = [(self.versions or {}).get(name, "-") for name in SHOWN]
        main = "-" if self.main is None else "done" if self.main == 0 else f"exit code {self.main}"
        return f"| {' | '.join([self.name, self.python, *shown, 'yes' if self.imports else 'no', self.tests, main])} |"


def requirements() -> list[str]:
    """What the project asks for with all of its extras, with ranges; its own extras of itself are left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(each for extra in project["optional-dependencies"].values() for each in extra)]
    return sorted({each for each in asked if not each.startswith(project["name"])})


def name_of(requirement: str) -> str:
    """A requirement's package, with its extras."""
    found = re.match(r"[A-Za-z0-9._-]+(\[[^]]*\])?", requirement)
    assert found is not None, requirement
    return found.group()


def tried(name: str, place: Path, tests: Sequence[str]) -> Tried:
    """Make an environment and try the project in it."""
    # With their lower ends: else the newest of one package is had by an ancient one of another.
    asked = [each.partition(",")[0] for each in requirements()] if name == NEWEST else requirements()
    interpreter = sys.executable if name in (NEWEST, LOWEST) else name
    resolution = ["--resolution", "lowest-direct"] if name == LOWEST else []
    own = place / "environment" / re.sub(r"\W+", "_", name)
    python = own / "bin" / "python"
    for command in (
        ["uv", "venv", "--clear", "--python", interpreter, str(own)],
        ["uv", "pip", "install", "--python", str(python), *resolution, *asked],
    ):
        if error := _failed(command):
            return Tried(name, said=(error,))
    version, versions = _versions(python)
    made = Tried(name, version, versions)
    if error := _failed([str(python), "-c", ROOMS]):
        return Tried(**{**asdict(made), "said": (error,)})
    suite = _run([str(python), "-m", "pytest", "-q", "-m", "not slow and not real_data", *tests])
    store = f"sqlite:///{place / 'stores' / (own.name + '.db')}"
    (place / "stores").mkdir(exist_ok=True)
    main = _run([str(python), "-m", "flows", "main", *SMALL, "--tracking_uri", store])
    said = [each.stdout[-3000:] for each in (suite, main) if each.returncode]
    last = (suite.stdout.splitlines() or [""])[-1]
    return Tried(name, version, versions, True, last, main.returncode, said)


def _versions(python: Path) -> tuple[str, dict[str, str]]:
    ask = (
        "import json, platform\nfrom importlib.metadata import distributions\n"
        "print(json.dumps([platform.python_version(), {d.name.lower(): d.version for d in distributions()}]))"
    )
    version, found = json.loads(_run([str(python), "-c", ask]).stdout.splitlines()[-1])
    names = [name_of(each).partition("[")[0].lower() for each in requirements()]
    return version, {name: found[name] for name in names if name in found}


def _failed(command: Sequence[str]) -> str:
    """The end of what a command says that fails; empty where it does not."""
    done = _run(command)
    return "" if done.returncode == 0 else done.stdout[-3000:]


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    ours = ("MLFLOW_", "PREFECT_", "VIRTUAL_ENV", "PYTHONPATH", "PYTEST_")
    outside = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment = {"OMP_NUM_THREADS": "1", **outside}
    return subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


def _all(place: Path, names: Sequence[str], tests: Sequence[str]) -> Iterator[Tried]:
    kept = place / "tried.jsonl"
    before = [Tried(**json.loads(line)) for line in kept.read_text().splitlines()] if kept.exists() else []
    for name in names:
        found = next((each for each in before if each.name == name), None)
        if found is None:
            found = tried(name, place, tests)
            with kept.open("a") as file:
                file.write(f"{json.dumps(asdict(found))}\n")
        print(found.row(), flush=True)
        yield found


def main(arguments: Sequence[str]) -> int:
    """Try the environments, and print the table and what fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versions", description=__doc__)
    parser.add_argument("--place", type=Path, required=True, help="folder of environments, stores and results; kept")
    parser.add_argument(
        "--only", nargs="*", choices=(NEWEST, LOWEST), default=[NEWEST, LOWEST], help="which of the two"
    )
    parser.add_argument("--python", nargs="*", default=[], help="other interpreters")
    parser.add_argument("--tests", nargs="*", default=TESTS, help="files and folders of tests")
    chosen = parser.parse_args(arguments)
    place = chosen.place.resolve()
    place.mkdir(parents=True, exist_ok=True)
    print(*HEAD, sep="\n")
    found = list(_all(place, [*chosen.only, *chosen.python], chosen.tests))
    for each in found:
        for said in each.said:
            print(f"\n{each.name}:\n{said}")
    return 0 if not any(each.said for each in found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
