"""The solutions that the tests of this room alter."""

import pytest

from tests.formulation.verify.solved import Solutions


@pytest.fixture(scope="session")
def solutions() -> Solutions:
    return Solutions()
