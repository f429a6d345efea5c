"""Arrays under the names of layers: they come back as they were, or are refused in one line."""

import numpy as np
import pytest

from flows.adapters.artifact_files import arrays_fit, log_values, logged_arrays, logged_file, logged_values
from flows.cache import StageResult
from flows.errors import ArtifactError

NAMES = ("file", "allow_pickle", "fc1", "features.0/odd name")  # two of them are numpy's own arguments


@pytest.fixture
def result() -> StageResult:
    return StageResult(run_id="0")


def test_values_come_back_under_any_layers_name(result: StageResult) -> None:
    given = {name: np.arange(3.0) + k for k, name in enumerate(NAMES)}
    log_values(result, "scores.npz", given)
    found = logged_values(result, "scores.npz")
    assert list(found) == list(given)
    for name, values in given.items():
        np.testing.assert_array_equal(found[name], values)


def test_a_file_that_is_no_archive_is_refused_by_name(result: StageResult) -> None:
    with logged_file(result, "scores.npz") as path:
        np.save(path.with_suffix(".npy"), np.zeros(2))
        path.with_suffix(".npy").rename(path)
    with pytest.raises(ArtifactError, match=r"^run_id=0: scores\.npz cannot be read \([^\n]*; run its stage again$"):
        logged_arrays(result, "scores.npz")


@pytest.mark.parametrize("error", [KeyError("a"), TypeError("two\nlines"), ValueError("c")])
def test_arrays_of_another_kind_are_refused_in_one_line(result: StageResult, error: Exception) -> None:
    said = r"scores\.npz holds other arrays than are needed \([^\n]*$"
    with pytest.raises(ArtifactError, match=said), arrays_fit(result, "scores.npz"):
        raise error
