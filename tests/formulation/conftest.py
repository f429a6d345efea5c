"""One torch thread for every test of this room, and the solution of a module's case."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from formulation import Solution, score


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def solution(request: pytest.FixtureRequest) -> Solution:
    """The solution of the module's CASE by its SETTINGS."""
    case = request.module.CASE
    return score(case.model, case.images, case.labels, request.module.SETTINGS)
