"""Private names of our modules: no test reaches into them, whether by import, by attribute or by a patch's string."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("benchmarks", "critical_neurons", "flows", "formulation", "naming", "tracing", "training")
PATCHES = ("setattr", "getattr", "delattr", "hasattr", "patch", "object")
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name.strip("_") != ""


def others_of(tree: ast.AST) -> set[str]:
    """The names that a file imports from what is not ours; those libraries' own privacy is no matter of the house."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {each.asname or each.name.split(".")[0] for each in node.names if not is_ours(each.name)}
        if isinstance(node, ast.ImportFrom) and not is_ours(node.module or ""):
            found |= {each.asname or each.name for each in node.names}
    return found


def is_ours(module: str) -> bool:
    return module.split(".")[0] in (*ROOMS, "tests")


def reaches(tree: ast.AST) -> list[str]:
    """The private names that a test reads of a module or of an object that it did not make itself."""
    others = others_of(tree) | {"self", "cls"}
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if is_ours(module):
                found += [f"{module}.{each.name}" for each in names if is_private(each.name)]
            case ast.Attribute(value=ast.Name(id=name)) if name in others:
                pass
            case ast.Attribute(attr=attribute) if is_private(attribute):
                found.append(ast.unparse(node))
            case ast.Call(func=ast.Attribute(attr=called) | ast.Name(id=called), args=given) if called in PATCHES:
                words = [each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str)]
                found += [word for word in words if is_private(word.rpartition(".")[2])]
            case _:
                pass
    return found


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT / "tests")))
def test_no_test_reaches_into_a_private_name(path: Path) -> None:
    assert reaches(ast.parse(path.read_text())) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from training.fitting.loop import _fit", ["training.fitting.loop._fit"]),
        ("from training.fitting import loop\nloop._fit()", ["loop._fit"]),
        ("search.separation._given", ["search.separation._given"]),
        ('monkeypatch.setattr(loop, "_fit", 1)', ["_fit"]),
        ('monkeypatch.setattr("training.fitting.loop._fit", 1)', ["training.fitting.loop._fit"]),
        ("import os\nos._exit(0)", []),
        ("self._start()", []),
        ("loop.__name__", []),
        ('setattr(loop, "fit", 1)', []),
    ],
)
def test_a_private_name_is_found_and_only_where_it_is_ours(text: str, found: list[str]) -> None:
    assert reaches(ast.parse(text)) == found
