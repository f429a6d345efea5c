"""Whatever stands in a record, in stored settings or in arrays: it is read, or refused in the flows' own words."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flows.adapters import artifacts
from flows.cache import (
    Cache,
    DamagedRecord,
    Data,
    EarlierResult,
    File,
    Metrics,
    Record,
    StageResult,
    Tags,
    key_digest,
    read_record,
)
from flows.cache.entries import entry_of, line_of
from flows.cache.record import digest_of
from flows.config.settings import Settings
from flows.errors import FlowError

ABOUT = {"task": "train", "settings": {"seed": 1}}
FUZZED = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
TOLD = (Metrics({"loss": 0.5}, 1, 2), Tags({"a": "b"}), File("weights.pt"), Data(*"abcdefg"))


@contextmanager
def read_or_refused(kind: type[Exception]) -> Iterator[None]:
    """A block that may end in an error of that kind, of one line, and in no other."""
    said = ""
    try:
        yield
    except kind as error:
        said = str(error)
    assert "\n" not in said


@pytest.fixture(scope="module")
def record() -> Iterator[Record]:
    with tempfile.TemporaryDirectory() as place:
        cache, key = Cache(Path(place)), key_digest(ABOUT)
        draft = cache.draft("train", key)
        (draft.files / "weights.pt").write_bytes(b"weights")
        for each in TOLD:
            draft.append(each)
        yield cache.seal(draft, "train", key, ABOUT, 1.0)


@st.composite
def changed(draw: st.DrawFn, content: bytes) -> bytes:
    """A prefix of some bytes, the same with a part changed or inserted, or anything."""
    place, part = draw(st.integers(0, len(content))), draw(st.binary(max_size=12))
    cut, over = content[:place], content[:place] + part + content[place + len(part) :]
    return draw(st.sampled_from([cut, over, cut + part + content[place:], part]))


@given(data=st.data())
@FUZZED
def test_a_record_with_changed_bytes_is_damaged_or_the_same(record: Record, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["sealed.json", "entries.jsonl", "files/weights.pt"]))
    with tempfile.TemporaryDirectory() as place:
        folder = shutil.copytree(record.folder, Path(place) / "record")
        (folder / name).write_bytes(data.draw(changed((folder / name).read_bytes())))
        with read_or_refused(DamagedRecord):
            found = read_record(folder)
            assert (found.content, found.seconds, found.about) == (record.content, record.seconds, record.about)
            assert list(found.entries()) == list(TOLD)


@given(data=st.data())
@FUZZED
def test_a_seal_with_anything_in_it_is_damaged_even_with_its_sum_right(record: Record, data: st.DataObject) -> None:
    seal = json.loads((record.folder / "sealed.json").read_text())
    part = data.draw(st.sampled_from([seal, seal["digests"]]))
    part[data.draw(st.sampled_from(sorted(part)) | st.text(max_size=5))] = data.draw(JSON)
    if data.draw(st.booleans()):
        seal["sum"] = digest_of({name: seal[name] for name in ("about", "seconds", "digests")})
    with tempfile.TemporaryDirectory() as place:
        folder = shutil.copytree(record.folder, Path(place) / "record")
        (folder / "sealed.json").write_text(json.dumps(seal))
        with read_or_refused(DamagedRecord):
            assert read_record(folder).content == record.content


@given(
    st.text()
    | JSON.map(json.dumps)
    | st.dictionaries(st.sampled_from(["kind", "values", "step", "path"]), JSON).map(json.dumps)
)
@FUZZED
def test_a_line_is_an_entry_or_none(line: str) -> None:
    try:
        entry = entry_of(line)
    except (ValueError, KeyError, TypeError):
        return
    assert entry_of(line_of(entry)) == entry


def holding(name: str, content: bytes) -> StageResult:
    """A result in memory that holds a file."""
    result = StageResult(run_id="0")
    result.add_file(content, name)
    return result


@given(data=st.data())
@FUZZED
def test_stored_settings_are_read_or_refused(data: st.DataObject) -> None:
    plain = json.dumps(Settings().model_dump()).encode()
    names = st.sampled_from(sorted(Settings.model_fields)) | st.text(max_size=5)
    odd = st.dictionaries(names, JSON, max_size=3).map(lambda values: json.dumps(values).encode())
    result = holding("settings.json", data.draw(st.one_of(changed(plain), odd, JSON.map(json.dumps).map(str.encode))))
    with read_or_refused(FlowError):
        assert isinstance(artifacts.logged_settings(result), Settings)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b"[" * 100000, b"null", b"[1]", b'{"seed": 1'])
def test_settings_that_are_cut_empty_or_no_text_are_refused_in_one_line(content: bytes) -> None:
    result = holding("settings.json", content)
    with pytest.raises(FlowError, match=r"^run_id=0: settings\.json [^\n]*; choose another run$"):
        artifacts.logged_settings(result)


@given(data=st.data())
@FUZZED
def test_a_table_is_read_or_refused(data: st.DataObject) -> None:
    table = st.dictionaries(
        st.sampled_from(["columns", "data"]), JSON | st.lists(st.lists(JSON, max_size=2)), max_size=2
    )
    result = holding("table.json", json.dumps(data.draw(table)).encode())
    with read_or_refused(FlowError):
        assert isinstance(result.rows("table.json"), list)


READERS: dict[str, Callable[[EarlierResult], object]] = {
    "scores.npz": artifacts.logged_scores,
    "classes.npz": artifacts.logged_classes,
    "connections.npz": artifacts.logged_connections,
    "scoring_set_1.npz": lambda run: artifacts.logged_scoring_set(run, 1),
}


@given(data=st.data())
@FUZZED
def test_arrays_are_read_or_refused(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(READERS)))
    keys = st.sampled_from(["score/names", "score/fc1", "images", "labels", "indices", "x"])
    shapes = st.lists(st.integers(0, 3), max_size=3)
    kinds = st.sampled_from(["f8", "i8", "U2", "?", "c16", "u2", "M8[s]", "S3"])
    arrays = {
        key: np.zeros(data.draw(shapes), data.draw(kinds)) for key in data.draw(st.sets(keys, min_size=1, max_size=5))
    }
    with tempfile.TemporaryDirectory() as place:
        np.savez(Path(place) / name, **arrays)
        content = (Path(place) / name).read_bytes()
    result = holding(name, data.draw(changed(content)) if data.draw(st.booleans()) else content)
    with read_or_refused(FlowError):
        READERS[name](result)
