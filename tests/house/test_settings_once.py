"""A setting is written once: its field says all of it, and no class or list of `flows` says its name again by hand."""

import ast
from pathlib import Path

from benchmarks.house import figures
from flows.config import Settings

ROOT = Path(__file__).resolve().parents[2]
HOME = Path("flows/config/groups")
# Who takes which settings: an entry point on its command line, a task by its recipe.
TAKERS = (Path("flows/config/entry_points.py"), Path("flows/execution/tasks.py"))
FLOWS = [each for each in figures.modules_of(ROOT) if each.path.parts[0] == "flows" and HOME not in each.path.parents]
LONGEST_LIST = 2


def repeated_fields(modules: list[figures.Module]) -> list[str]:
    """The classes that declare two settings or more by name, each with a default, which would be a second one.

    One name alone may be an ordinary word: a store's run_id, a worker's cache.
    """
    found = []
    for each in modules:
        for node in ast.walk(each.tree):
            if isinstance(node, ast.ClassDef):
                lines = [line for line in node.body if isinstance(line, ast.AnnAssign) and line.value]
                names = {ast.unparse(line.target) for line in lines} & set(Settings.model_fields)
                if len(names) > 1:
                    found.append(f"{each.path}: {node.name}: {', '.join(sorted(names))}")
    return found


def repeated_lists(modules: list[figures.Module]) -> list[str]:
    """The tuples, lists and sets that spell out three settings or more and nothing else."""
    found = []
    for each in modules:
        for node in ast.walk(each.tree):
            if isinstance(node, ast.Tuple | ast.List | ast.Set) and len(node.elts) > LONGEST_LIST:
                names = [item.value for item in node.elts if isinstance(item, ast.Constant)]
                if len(names) == len(node.elts) and set(names) <= set(Settings.model_fields):
                    found.append(f"{each.path}:{node.lineno}: {', '.join(map(str, names))}")
    return found


def test_no_class_but_their_groups_gives_settings_defaults() -> None:
    assert repeated_fields(FLOWS) == []


def test_no_list_of_settings_is_written_by_hand_but_of_those_that_a_flow_or_a_task_takes() -> None:
    assert repeated_lists([each for each in FLOWS if each.path not in TAKERS]) == []


def test_what_is_written_twice_is_found_in_a_module_made_for_it() -> None:
    text = (
        "class Mine:\n    gap: float = 1.0\n    seed: int = 0\n    dataset: object\n"
        "SHOWN = ('gap', 'seed', 'model')\nFEW = ('gap', 'seed')\nOTHER = ('gap', 'seed', 'something')\n"
    )
    made = [figures.Module(Path("flows/mine.py"), 8, ast.parse(text))]
    assert repeated_fields(made) == ["flows/mine.py: Mine: gap, seed"]
    assert repeated_lists(made) == ["flows/mine.py:5: gap, seed, model"]


def test_a_setting_that_others_give_away_is_told_in_few_files() -> None:
    assert len(figures.files_with(figures.modules_of(ROOT), "loss_weight")) <= 8
