"""The pictures that a transfer goes to."""

import pytest

from tests.flows.pipelines.experiments.small_transfer import write_pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a data set of coloured pictures, three classes of them."""
    return write_pictures(tmp_path_factory.mktemp("pictures"))
