"""Extras: a missing package is answered by the command that installs it."""

import pytest

from naming import first_missing, install_command, missing_extra


def test_a_missing_package_of_an_extra_is_answered_by_its_command() -> None:
    assert missing_extra("mlflow.pytorch") == 'mlflow is not installed: pip install "critical-neurons[workflow]"'
    assert missing_extra("pyscipopt").endswith(install_command("solvers"))


@pytest.mark.parametrize("module", ["somebodys_package", "", None])
def test_of_a_package_that_no_extra_brings_nothing_is_said(module: str | None) -> None:
    assert missing_extra(module) == ""


def test_the_first_that_is_missing_is_named_and_none_where_all_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert first_missing("json", "pytest") == ""
    monkeypatch.setattr("sys.path", [])
    monkeypatch.delitem(__import__("sys").modules, "sklearn", raising=False)
    assert first_missing("json", "sklearn").startswith("sklearn is not installed")
