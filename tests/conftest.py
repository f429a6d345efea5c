"""The tests of faults: those in which a process, a server, a cluster or a solver is killed, stopped, slow or away."""

from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
FAULTS = (
    "flows/backends",
    "flows/resume",
    "flows/execution/runners",
    "flows/pipelines/test_deployment_processes.py",
    "flows/execution/test_interruption.py",
    "flows/test_own_server.py",
    "flows/test_prefect_server.py",
    "flows/execution/test_vanished.py",
    "formulation/solve/solvers/test_solver_processes.py",
    "formulation/solve/solvers/test_solver_crashes.py",
)


# Before pytest itself chooses by marks.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of faults, by where they lie: `pytest -m faults` chooses them."""
    places = [TESTS / each for each in FAULTS]
    if missing := [str(each) for each in places if not each.exists()]:
        raise pytest.UsageError(f"tests/conftest.py lists as tests of faults what is not there: {', '.join(missing)}")
    for item in items:
        if any(item.path.is_relative_to(place) for place in places):
            item.add_marker("faults")
