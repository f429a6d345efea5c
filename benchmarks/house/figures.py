"""Figures of the code's structure, of this checkout or of any revision beside it.

python -m benchmarks.house.figures [REVISION ...]

One column per revision, the working tree last: modules per folder, floors per import contract, files that one setting
passes, names that mean two things, the sizes of files, and module docstrings that begin with a question word.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import tarfile
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from statistics import mean, median

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("flows", "formulation", "training", "tracing", "critical_neurons")
QUESTIONS = ("What", "How", "Which", "Who", "Where", "Whether", "Why")
# One module of exceptions per package is a convention that readers look for, as is the entry of `python -m`.
CONVENTIONAL = ("errors", "__main__")
# The public face bears the libraries' own verbs: there they mean the same, with a loader.
FACE, VERBS = "critical_neurons", ("prune", "score")


@dataclass(frozen=True)
class Module:
    """One source file: its path below the checkout, its lines and its syntax tree."""

    path: Path
    lines: int
    tree: ast.Module


def modules_of(root: Path) -> list[Module]:
    """The modules of the packages below a checkout, without tests and benchmarks."""
    found = []
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            text = path.read_text()
            found.append(Module(path.relative_to(root), text.count("\n"), ast.parse(text)))
    return found


def modules_per_folder(modules: list[Module]) -> Counter[str]:
    """How many modules lie directly in each folder, its `__init__` apart."""
    return Counter(str(each.path.parent) for each in modules if each.path.name != "__init__.py")


def floors_per_contract(root: Path) -> list[int]:
    """How many layers each import contract has."""
    contracts = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return [len(contract["layers"]) for contract in contracts if contract["type"] == "layers"]


def duplicated_names(modules: list[Module]) -> list[str]:
    """Public types and functions, and modules, whose name stands for two things.

    An alias of a plain type (`Scores = dict[...]`) is no thing of its own, and a private name is nobody else's.
    """
    names: Counter[str] = Counter()
    for each in modules:
        if each.path.name != "__init__.py" and each.path.stem not in CONVENTIONAL:
            names[f"module {each.path.stem}"] += 1
        for node in each.tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                names[node.name] += not (each.path.parts[0] == FACE and node.name in VERBS)
    return sorted(name for name, count in names.items() if count > 1)


def files_with(modules: list[Module], name: str) -> list[str]:
    """The files whose code, not its documentation, says a name: as a variable, an attribute, a keyword or a string."""
    return [str(each.path) for each in modules if name in set(_said(each.tree))]


def questions(modules: list[Module]) -> list[str]:
    """The modules whose docstring begins with a question word instead of naming what the module is."""
    first = {str(each.path): (ast.get_docstring(each.tree) or "").partition(" ")[0] for each in modules}
    return [path for path, word in first.items() if word in QUESTIONS]


def figures(root: Path) -> dict[str, str]:
    """All figures of a checkout, in words."""
    modules = modules_of(root)
    folders, floors = modules_per_folder(modules), floors_per_contract(root)
    sizes = [each.lines for each in modules if each.path.name != "__init__.py"]
    longest = max(modules, key=lambda each: each.lines)
    return {
        "lines of source": f"{sum(each.lines for each in modules):,}",
        "modules": str(len(sizes)),
        "modules per folder, mean": f"{mean(folders.values()):.1f}",
        "modules per folder, largest": f"{max(folders.values())} ({max(folders, key=folders.__getitem__)})",
        "floors of the highest import contract": str(max(floors)),
        "files whose code says `loss_weight`": str(len(files_with(modules, "loss_weight"))),
        "duplicated names": str(len(duplicated_names(modules))),
        "lines of a file, median": f"{median(sizes):.0f}",
        "lines of a file, longest": f"{longest.lines} ({longest.path})",
        "module docstrings that begin with a question word": str(len(questions(modules))),
    }


def _said(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.Constant(value=str(name)):
                yield name
            case ast.keyword(arg=str(name)):
                yield name


def _at(revision: str, folder: str) -> Path:
    """The files of a revision, in a folder."""
    packed = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return Path(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description="Figures of the code's structure, a column per revision.")
    parser.add_argument("revisions", nargs="*", help="revisions to show before the working tree")
    parser.add_argument("--names", action="store_true", help="list the names that mean two things")
    given = parser.parse_args()
    columns = {}
    for revision in given.revisions:
        with tempfile.TemporaryDirectory() as folder:
            columns[revision] = figures(_at(revision, folder))
    columns["working tree"] = figures(ROOT)
    print("| figure |" + "".join(f" {name} |" for name in columns))
    print("|---|" + "---|" * len(columns))
    for figure in columns["working tree"]:
        print(f"| {figure} |" + "".join(f" {column[figure]} |" for column in columns.values()))
    if given.names:
        print(*duplicated_names(modules_of(ROOT)), sep="\n")


if __name__ == "__main__":
    main()
