"""The structure of the house: small folders, few floors, one name for one thing, docstrings that name the thing."""

import ast
from pathlib import Path

import pytest

from benchmarks.house import figures

ROOT = Path(__file__).resolve().parents[2]
MODULES = figures.modules_of(ROOT)
INITS = [each for each in MODULES if each.path.name == "__init__.py"]


def test_no_folder_holds_more_than_a_dozen_modules() -> None:
    crowded = {folder: count for folder, count in figures.modules_per_folder(MODULES).items() if count > 12}
    assert not crowded


def test_no_import_contract_has_more_than_eight_floors() -> None:
    assert max(figures.floors_per_contract(ROOT)) <= 8


def test_no_name_of_a_type_a_function_or_a_module_stands_for_two_things() -> None:
    assert figures.duplicated_names(MODULES) == []


def test_a_modules_docstring_names_the_module_instead_of_asking() -> None:
    assert figures.questions(MODULES) == []


@pytest.mark.parametrize("init", INITS, ids=lambda each: str(each.path.parent))
def test_a_folder_says_in_two_sentences_what_lives_there(init: figures.Module) -> None:
    described = " ".join((ast.get_docstring(init.tree) or "").split())
    assert described.endswith(".")
    assert described.count(". ") == 1


def test_what_is_counted_is_found_in_a_checkout_made_for_it(tmp_path: Path) -> None:
    for name, text in {
        "flows/__init__.py": '"""Rooms. Two."""\n',
        "flows/asks.py": '"""What it is."""\n\n\ndef twice() -> None: ...\n',
        "flows/other.py": '"""The same name; loss_weight is only mentioned here."""\n\n\ndef twice() -> None: ...\n',
        "training/other.py": '"""A setting."""\n\nloss_weight = 1.0\n',
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    modules = figures.modules_of(tmp_path)
    assert figures.modules_per_folder(modules) == {"flows": 2, "training": 1}
    assert figures.duplicated_names(modules) == ["module other", "twice"]
    assert figures.questions(modules) == ["flows/asks.py"]
    assert figures.files_with(modules, "loss_weight") == ["training/other.py"]
