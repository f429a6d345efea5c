"""Docstrings of the rooms' public functions: a sentence, every argument, every error that is raised there."""

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = [
    init
    for room in ("critical_neurons", "formulation", "naming", "tracing", "training")
    for init in sorted((ROOT / room).rglob("__init__.py"))
]
SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Source", "Departs from the paper")
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Exported:
    """A function or a class that a room exports."""

    path: Path
    node: Function | ast.ClassDef

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.node.name}"


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def defined(path: Path, name: str) -> Exported | None:
    """A function or a class of a module by its name, followed through a room's `__init__`; None for anything else."""
    for statement in tree_of(path).body:
        if isinstance(statement, Function | ast.ClassDef) and statement.name == name:
            return Exported(path, statement)
        if isinstance(statement, ast.ImportFrom) and name in {each.name for each in statement.names}:
            below = ROOT / str(statement.module).replace(".", "/")
            files = [
                each for each in (below.with_suffix(".py"), below / "__init__.py") if each.is_file() and each != path
            ]
            return defined(files[0], name) if files else None
    return None


def names_exported(init: Path) -> list[str]:
    return next(
        (
            ast.literal_eval(statement.value)
            for statement in ast.parse(init.read_text()).body
            if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__"
        ),
        [],
    )


FOUND = {str(each): each for init in ROOMS for name in names_exported(init) if (each := defined(init, name))}


def sections(text: str) -> dict[str, str]:
    """The parts of a docstring by their heading; what stands before the first one has the heading ""."""
    parts = re.split(rf"^({'|'.join(SECTIONS)}):", text, flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def names_explained(section: str) -> set[str]:
    """The names before the colon of an entry: `seed: ...`, or several with commas between them."""
    entries = re.findall(r"^ {4}(\w+(?:, \w+)*):", section, flags=re.MULTILINE)
    return {name for entry in entries for name in entry.split(", ")}


def parameters_of(function: Function) -> set[str]:
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
    return {each.arg for each in every}


def errors_raised(function: Function) -> set[str]:
    """The classes of errors that a function's own body raises, without functions inside it."""
    found: set[str] = set()
    rest: list[ast.AST] = list(function.body)
    while rest:
        node = rest.pop()
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            found.add(ast.unparse(node.exc.func).rpartition(".")[2])
        if not isinstance(node, Function | ast.Lambda | ast.ClassDef):
            rest.extend(ast.iter_child_nodes(node))
    return {name for name in found if name[0].isupper()}


def complaints(node: Function | ast.ClassDef) -> list[str]:
    """What a docstring lacks; one argument needs no entry, nor an error that a sentence `Raise ...` names."""
    parts = sections(ast.get_docstring(node) or "")
    sentence = " ".join(parts[""].split("\n\n")[0].split())
    found = [] if sentence.endswith((".", ":")) else ["its first paragraph is no sentence"]
    if isinstance(node, ast.ClassDef):
        return found
    taken, explained = parameters_of(node), names_explained(parts.get("Args", ""))
    if len(taken) > 1 and taken - explained:
        found.append(f"Args lacks {', '.join(sorted(taken - explained))}")
    if explained - taken:
        found.append(f"Args names {', '.join(sorted(explained - taken))}, which it does not take")
    said = parts.get("Raises", "") + (sentence if sentence.startswith("Raise ") else "")
    if missing := {name for name in errors_raised(node) if name not in said}:
        found.append(f"Raises lacks {', '.join(sorted(missing))}")
    return found


@pytest.mark.parametrize("each", FOUND.values(), ids=str)
def test_what_a_room_exports_says_what_it_takes_and_raises(each: Exported) -> None:
    assert complaints(each.node) == []


def test_every_room_exports_something_that_is_looked_at() -> None:
    seen = {each.path.relative_to(ROOT).parts[0] for each in FOUND.values()}
    assert seen == {"critical_neurons", "formulation", "naming", "tracing", "training"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('def f(a):\n    """No end"""', "its first paragraph is no sentence"),
        ("def f(a): ...", "its first paragraph is no sentence"),
        ('def f(a, b):\n    """Sum.\n\n    Args:\n        a: one.\n    """', "Args lacks b"),
        ('def f(a):\n    """Same.\n\n    Args:\n        c: gone.\n    """', "Args names c, which it does not take"),
        ('def f(a):\n    """Same.\n    """\n    raise ValueError(a)', "Raises lacks ValueError"),
    ],
)
def test_a_docstring_that_lacks_something_is_found(text: str, complaint: str) -> None:
    (function,) = ast.parse(text).body
    assert isinstance(function, ast.FunctionDef)
    assert complaint in complaints(function)


@pytest.mark.parametrize(
    "text",
    [
        'def f(a):\n    """The square of a number."""',
        'def f(a, b):\n    """Sum.\n\n    Args:\n        a, b: numbers.\n    """',
        'def f(a):\n    """Raise ValueError where a is 0."""\n    raise ValueError(a)',
        'def f(a):\n    """Same.\n\n    Raises:\n        ValueError: a is 0.\n    """\n    raise ValueError(a)',
    ],
)
def test_a_docstring_that_says_it_all_passes(text: str) -> None:
    (function,) = ast.parse(text).body
    assert isinstance(function, ast.FunctionDef)
    assert complaints(function) == []
