"""Mutants of the constraint code, and which tests catch them: every sign, every row, every M, every pair of bounds.

python -m benchmarks.mutation [--only relaxation/gates] [--jobs 2]

Each mutant is one change of one expression in a copy of the code: + for -, <= for >=, a row left out, M shrunk by 10 %,
a lower bound for an upper one, a maximum for a minimum. The tests of that file and those of the whole program run on
the copy until the first fails. Mutants that compute the same are listed in EQUIVALENT, with the reason, and counted
apart.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).parent.parent
FILES = (
    *("relaxation/inequalities", "solve/constraints", "relaxation/gates", "relaxation/sparsity", "relaxation/loss"),
    *("solve/encoding", "solve/separation", "solve/pass_pace"),
)
WHOLE_PROGRAM = (  # run after a file's own tests
    "relaxation/test_reduction.py::test_reduced_and_unreduced_relaxations_agree_on_every_operation",
    "relaxation/test_reduction.py::test_reduced_and_unreduced_integer_programs_agree_with_unstable_windows_sums_and_shifts",
    "relaxation/test_reduction.py::test_reduced_and_unreduced_relaxations_agree_on_drawn_networks",
    "solve/test_program.py::test_every_mask_fixed_into_the_program_gives_the_masked_torch_networks_logits[max_pooled-0.02-30]",
    "solve/test_program.py::test_every_mask_fixed_into_the_program_gives_the_masked_torch_networks_logits[tabular-0.02-100]",
    "solve/test_separation.py",
    "test_embed.py::test_at_a_fixed_input_the_outputs_are_the_networks",
)
SECONDS = 300.0  # a mutant that runs longer is caught: the code no longer ends
SHRUNK = ("cap", "big_m", "slack", "top")
FLIPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.LtE: ast.GtE, ast.GtE: ast.LtE, ast.Lt: ast.Gt, ast.Gt: ast.Lt,
    ast.Eq: ast.LtE,
}  # fmt: skip
SWAPPED = {"lower": "upper", "upper": "lower", "maximum": "minimum", "minimum": "maximum"}

# (where, which of the same changes there, change): why it computes the same
EQUIVALENT: dict[tuple[str, int, str], str] = {
    (
        "solve/separation.Separation._step", 1, "gate.upper -> gate.lower",
    ): "a value that breaks a cut lies above both its bounds or below both",
    (
        "solve/separation.Separation._cuts", 1, "gate.lower -> gate.upper",
    ): "only the shape is read, and both have the same",
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change: `before` at [start, end) of a file becomes `after`."""

    file: str
    function: str
    line: int
    start: int
    end: int
    before: str
    after: str

    @property
    def where(self) -> str:
        return f"{self.file}.{self.function}"

    @property
    def change(self) -> str:
        return f"{' '.join(self.before.split())} -> {' '.join(self.after.split())}"


def mutants(file: str) -> list[Mutant]:
    """Every mutant of a file of `formulation`."""
    text = (ROOT / "formulation" / f"{file}.py").read_text()
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = []
    for node, function in _code(ast.parse(text)):
        for after in _changes(node, file):
            # What `_changes` changes are expressions and statements, which have places; the type of all nodes has none.
            start = starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
            end = starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]  # likewise
            line = node.lineno  # type: ignore[attr-defined]  # likewise
            found.append(Mutant(file, function, line, start, end, text[start:end], after))
    return found


def without_equivalents(found: list[Mutant]) -> list[Mutant]:
    """Those that do not compute the same."""
    seen: Counter[tuple[str, str]] = Counter()
    kept = []
    for mutant in found:
        seen[mutant.where, mutant.change] += 1
        if (mutant.where, seen[mutant.where, mutant.change], mutant.change) not in EQUIVALENT:
            kept.append(mutant)
    return kept


def _code(tree: ast.AST, function: str = "") -> Iterator[tuple[ast.AST, str]]:
    """Every node inside functions, outside annotations, messages and decorators, with its function's name."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
            inside = f"{function}.{child.name}".strip(".")
            if isinstance(child, ast.FunctionDef) and any(_is(d, "property") for d in child.decorator_list):
                continue
            for statement in child.body:
                if function or isinstance(child, ast.FunctionDef) or isinstance(statement, ast.FunctionDef):
                    yield from _inside(statement, inside)
        elif function:
            yield from _inside(child, function)


def _inside(node: ast.AST, function: str) -> Iterator[tuple[ast.AST, str]]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        holder = ast.Module(body=[node], type_ignores=[])
        yield from _code(holder, function)
        return
    if isinstance(node, (ast.Raise, ast.Assert, ast.JoinedStr)):
        return
    yield node, function
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _inside(child, function)


def _changes(node: ast.AST, file: str) -> Iterator[str]:
    """What a node may become."""
    match node:
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr="add_constraints"))):
            yield "pass"  # the row is left out
        case ast.Expr(value=ast.Yield()):
            yield "yield from ()"  # so is a family of inequalities
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right):
            # A table of operators and comparisons cannot say in types that it maps each kind to itself.
            yield f"({ast.unparse(ast.BinOp(left, FLIPPED[type(op)](), right))})"  # type: ignore[arg-type]
        case ast.AugAssign(target=target, op=ast.Sub(), value=value) if isinstance(target, ast.Subscript):
            yield ast.unparse(ast.AugAssign(target, ast.Add(), value))
        case ast.UnaryOp(op=ast.USub(), operand=operand) if not isinstance(operand, ast.Constant):
            yield f"({ast.unparse(operand)})"
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in FLIPPED and not _names(node):
            # As above.
            yield f"({ast.unparse(ast.Compare(left, [FLIPPED[type(op)]()], [right]))})"  # type: ignore[list-item]
        case ast.Attribute(value=value, attr=("lower" | "upper" | "maximum" | "minimum") as attr):
            yield ast.unparse(ast.Attribute(value, SWAPPED[attr], node.ctx))
        case ast.Call(func=func, args=args, keywords=keywords) if {"lower", "upper"} <= {k.arg for k in keywords}:
            swapped = [ast.keyword(SWAPPED.get(k.arg or "", k.arg), k.value) for k in keywords]
            yield ast.unparse(ast.Call(func, args, swapped))
        case ast.Assign(targets=[ast.Name(id=name) as target], value=value) if (
            file == "relaxation/gates" and name in SHRUNK
        ):
            yield f"{target.id} = 0.9 * ({ast.unparse(value)})"
        case ast.keyword(arg=name, value=value) if file == "relaxation/gates" and name in SHRUNK:
            yield f"{name}=0.9 * ({ast.unparse(value)})"
        case ast.Subscript(value=ast.Attribute(value=ast.Name(id="gate"), attr=name)) if (
            file == "solve/encoding" and name in SHRUNK
        ):
            yield f"(0.9 * {ast.unparse(node)})"
        case ast.Call(func=ast.Name(id="DataArray"), args=[ast.Name(id=name) | ast.Attribute(attr=name), *_]) if (
            name in SHRUNK
        ):
            yield f"(0.9 * {ast.unparse(node)})"


def _names(node: ast.Compare) -> bool:
    """Whether a comparison asks for a name, a state or a number of dimensions, and not for a bound."""
    (right,) = node.comparators
    return isinstance(node.ops[0], ast.Eq) and not (isinstance(right, ast.Constant) and right.value == 1)


def _is(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def tests_of(file: str) -> list[str]:
    """A file's own tests, then those of the whole program; all files' for no file."""
    folder = Path("tests") / "formulation"
    own = [str(Path(name).with_name(f"test_{Path(name).name}.py")) for name in ([file] if file else FILES)]
    named = dict.fromkeys([name for name in own if (ROOT / folder / name).exists()] + list(WHOLE_PROGRAM))
    return [str(folder / name) for name in named]


class FirstFailure:
    """A pytest plugin that remembers the first test that fails, or the first file that cannot be read."""

    name = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and not self.name:
            self.name = report.nodeid.rpartition("::")[2]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed and not self.name:
            self.name = f"{report.nodeid} cannot be read"


def judge(mutant: Mutant, folder: Path) -> None:
    """In a process of its own: make the mutant in a copy, run its tests, leave the verdict in the file `verdict`."""
    copy = copied(folder)
    if mutant.file:
        path = copy / "formulation" / f"{mutant.file}.py"
        text = path.read_text()
        path.write_text(text[: mutant.start] + mutant.after + text[mutant.end :])
    os.chdir(copy)
    sys.path[0] = str(copy)
    sys.dont_write_bytecode = True
    # one failing example is enough: looking for a smaller one takes minutes
    hypothesis.settings.register_profile("mutants", phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate])
    hypothesis.settings.load_profile("mutants")
    first = FirstFailure()
    options = ["-x", "-q", "-p", "no:cacheprovider", "--timeout", "60", "--no-header", "--tb", "no"]
    with (folder / "output").open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        ended = pytest.main([*options, *tests_of(mutant.file)], plugins=[first])
    (folder / "verdict").write_text(first.name or ("" if ended == 0 else f"pytest ended with {int(ended)}"))


def verdicts(everything: list[Mutant], jobs: int) -> Iterator[tuple[Mutant, str]]:
    """The test that catches each mutant, "" where none does, as they are found.

    Every mutant is judged in a fork of this process, which has torch and linopy in memory and nothing of `formulation`.
    """
    waiting, running = list(reversed(everything)), dict[int, tuple[Mutant, Path, float]]()
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant, folder = waiting.pop(), Path(tempfile.mkdtemp())
            child = os.fork()
            if child == 0:
                try:
                    judge(mutant, folder)
                finally:
                    os._exit(0)
            running[child] = mutant, folder, time.perf_counter()
        time.sleep(0.05)
        for child, (mutant, folder, started) in list(running.items()):
            late = time.perf_counter() - started > SECONDS
            if late:
                os.kill(child, signal.SIGKILL)
            if os.waitpid(child, 0 if late else os.WNOHANG)[0]:
                del running[child]
                verdict = folder / "verdict"
                yield (
                    mutant,
                    "does not end" if late else verdict.read_text() if verdict.exists() else "the process died",
                )
                shutil.rmtree(folder)


def copied(folder: Path) -> Path:
    """A copy of what the tests need."""
    for name in ("formulation", "naming", "tracing", "tests/formulation", "tests/oracles"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "instances"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def main() -> int:
    """Judge every mutant and print the table and the share that is caught."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", choices=FILES, nargs="*", default=FILES, help="files to mutate")
    parser.add_argument("--jobs", type=int, default=2, help="mutants judged at once")
    parser.add_argument("--list", action="store_true", help="only list the mutants")
    chosen = parser.parse_args()
    everything = [mutant for file in chosen.only for mutant in mutants(file)]
    if chosen.list:
        print("\n".join(f"{m.file}:{m.line} {m.function}: {m.change}" for m in everything))
        print(len(everything), "mutants")
        return 0
    for module in ("torch", "linopy", "highspy", "scipy.special", "xarray"):
        importlib.import_module(module)
    started = time.perf_counter()
    ((_, by),) = verdicts([Mutant("", "", 0, 0, 0, "", "")], 1)
    if by:
        print(f"a test fails before anything is changed: {by}; mend that first")
        return 2
    print(f"nothing changed, nothing caught: {time.perf_counter() - started:.0f} s")
    tested = without_equivalents(everything)
    caught = 0
    print("| where | change | caught by |\n|---|---|---|")
    for mutant, by in verdicts(tested, chosen.jobs):
        caught += bool(by)
        where, change = f"{mutant.file}:{mutant.line} {mutant.function}", mutant.change.replace("|", "\\|")
        print(f"| {where} | `{change}` | {by or '**nothing**'} |", flush=True)
    share = 100 * caught / max(1, len(tested))
    print(f"\n{caught} of {len(tested)} mutants caught ({share:.1f} %), {len(tested) - caught} survive")
    print(f"{len(everything) - len(tested)} more compute the same and were not tried")
    spent = os.times()
    cpu = spent.user + spent.system + spent.children_user + spent.children_system
    print(f"{time.perf_counter() - started:.0f} s, {chosen.jobs} at once, {cpu:.0f} CPU seconds")
    return 0 if share >= 95 else 1


if __name__ == "__main__":
    sys.exit(main())
