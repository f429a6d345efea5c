"""Mutants of the constraint code: each applies to the present text, and what is said to compute the same exists."""

from __future__ import annotations

import ast
from collections import Counter

import pytest

from benchmarks import mutation

EVERY = [mutant for file in mutation.FILES for mutant in mutation.mutants(file)]


@pytest.mark.parametrize("file", mutation.FILES)
def test_a_file_has_mutants_that_apply_to_its_text_and_can_be_parsed(file: str) -> None:
    text = (mutation.ROOT / "formulation" / f"{file}.py").read_text()
    found = [mutant for mutant in EVERY if mutant.file == file]
    assert found
    for mutant in found:
        assert text[mutant.start : mutant.end] == mutant.before
        changed = text[: mutant.start] + mutant.after + text[mutant.end :]
        assert changed != text
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(text))


def test_what_computes_the_same_is_a_mutant_of_the_present_text() -> None:
    seen: Counter[tuple[str, str]] = Counter()
    listed = set()
    for mutant in EVERY:
        seen[mutant.where, mutant.change] += 1
        listed.add((mutant.where, seen[mutant.where, mutant.change], mutant.change))
    assert set(mutation.EQUIVALENT) <= listed
    assert len(mutation.without_equivalents(EVERY)) == len(EVERY) - len(mutation.EQUIVALENT)


@pytest.mark.parametrize("file", mutation.FILES)
def test_the_tests_that_judge_a_mutant_exist(file: str) -> None:
    for name in mutation.tests_of(file):
        path, _, test = name.partition("::")
        text = (mutation.ROOT / path).read_text()
        assert f"def {test.partition('[')[0] or 'test_'}" in text
