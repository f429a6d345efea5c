"""Whatever stands in the files of a solution: it is read, or refused as no solution; nothing else comes out."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from formulation import FormulationError, InvalidSolution, Solution, check, score
from tests.formulation.cases import dense
from tests.formulation.paper_settings import paper_settings

CASE = dense(1, images=3)
FILES = ("certificate.json", "solution.npz")
FUZZED = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def stored() -> Iterator[Path]:
    made = score(CASE.model, CASE.images, CASE.labels, paper_settings(radius=0.1, relax=False, loss_weight=20))
    with tempfile.TemporaryDirectory() as place:
        yield made.save(place)


def load(stored: Path, changed: dict[str, bytes]) -> Solution:
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(stored, place, dirs_exist_ok=True)
        for name, content in changed.items():
            (Path(place) / name).write_bytes(content)
        return Solution.load(place)


@given(data=st.data())
@FUZZED
def test_prefixes_changed_bytes_and_anything_else_are_read_or_refused(stored: Path, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(FILES))
    content = (stored / name).read_bytes()
    kind = data.draw(st.sampled_from(["prefix", "changed", "inserted", "anything"]))
    place, bytes_ = data.draw(st.integers(0, len(content))), data.draw(st.binary(max_size=12))
    after = place if kind == "inserted" else place + len(bytes_)
    made = {"prefix": content[:place], "anything": bytes_}.get(kind, content[:place] + bytes_ + content[after:])
    with suppress(InvalidSolution):
        load(stored, {name: made})


@pytest.mark.slow
@given(data=st.data())
@FUZZED
def test_a_certificate_with_anything_in_it_is_checked_or_refused(stored: Path, data: st.DataObject) -> None:
    whole: dict[str, Any] = json.loads((stored / "certificate.json").read_text())
    place = data.draw(st.sampled_from(["top", "settings", "history"]))
    batch: dict[str, Any] = {"top": whole, "settings": whole["settings"], "history": whole["history"][0]}[place]
    name = data.draw(st.sampled_from(sorted(batch)) | st.text(max_size=5))
    if data.draw(st.booleans()):
        batch[name] = data.draw(JSON)
    else:
        batch.pop(name, None)
    with suppress(FormulationError):
        check(CASE.model, CASE.images, CASE.labels, load(stored, {"certificate.json": json.dumps(whole).encode()}))


@pytest.mark.slow
@given(data=st.data())
@FUZZED
def test_arrays_of_any_type_and_shape_are_checked_or_refused(stored: Path, data: st.DataObject) -> None:
    with np.load(stored / "solution.npz") as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = data.draw(st.sampled_from(sorted(arrays)) | st.sampled_from(["scores/9", "where/9", "dual_bound/more", "x"]))
    shape = data.draw(st.lists(st.integers(0, 4), max_size=3))
    kind = data.draw(st.sampled_from(["f8", "f4", "i8", "u1", "?", "U3", "c16", "M8[s]", "S2"]))
    value = data.draw(st.sampled_from([0, 1, -1, 7]))
    made = np.full(shape, value).astype(kind) if data.draw(st.booleans()) else np.full(shape, np.nan)
    with tempfile.TemporaryDirectory() as place:
        np.savez(Path(place) / "solution.npz", **arrays | {name: made})
        content = (Path(place) / "solution.npz").read_bytes()
    with suppress(FormulationError):
        check(CASE.model, CASE.images, CASE.labels, load(stored, {"solution.npz": content}))
