"""Records on disk: whole or not there, damaged ones named, one writer at a time."""

import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.cache import Cache, DamagedRecord, Data, File, Metrics, Record, Tags, key_digest, read_record
from flows.cache.entries import entry_of, line_of
from flows.cache.marker import ASIDE
from flows.errors import CacheError

ABOUT = {"task": "train", "settings": {"seed": 1, "share": 0.1}, "reads": {"trained": ("a", "b")}}
KEY = key_digest(ABOUT)
NAMES = st.text(max_size=20)
FIGURES = st.floats(allow_nan=False)
ENTRIES = st.one_of(
    st.builds(Metrics, st.dictionaries(NAMES, FIGURES, max_size=3), st.integers(0, 10**9), st.integers(0, 10**13)),
    st.builds(Tags, st.dictionaries(NAMES, NAMES, max_size=3)),
    st.builds(File, NAMES, st.booleans()),
    st.builds(Data, *[NAMES] * 7),
)


def _about(name: str) -> dict[str, object]:
    return {**ABOUT, "name": name}


def _write(cache: Cache, name: str = "", weights: bytes = b"weights", seconds: float = 1.5) -> Record:
    about = _about(name) if name else ABOUT
    key = key_digest(about)
    draft = cache.draft("train", key)
    (draft.files / "folder").mkdir()
    (draft.files / "weights.pt").write_bytes(weights)
    (draft.files / "folder" / "picture.png").write_bytes(os.urandom(8))
    draft.append(Metrics({"loss": 0.25}, 1, 1000))
    draft.append(File("weights.pt"))
    return cache.seal(draft, "train", key, about, seconds)


@given(ENTRIES)
def test_an_entry_is_the_same_after_its_line_is_read(entry: Metrics | Tags | File | Data) -> None:
    assert entry_of(line_of(entry)) == entry
    assert line_of(entry).count("\n") == 1


def test_a_sealed_record_is_found_with_what_was_written(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.find("train", KEY) is None
    written = _write(cache)
    found = cache.find("train", KEY)
    assert found == written
    assert list(found.entries()) == [Metrics({"loss": 0.25}, 1, 1000), File("weights.pt")]
    assert (found.files / "weights.pt").read_bytes() == b"weights"
    assert found.seconds == 1.5


def test_a_draft_that_was_never_sealed_is_nothing_and_is_written_over(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    left = cache.draft("train", KEY)
    (left.files / "half").write_bytes(b"half")
    assert cache.find("train", KEY) is None
    found = _write(cache)
    assert not (found.files / "half").exists()


def test_the_content_is_that_of_what_is_handed_on_and_of_nothing_else(tmp_path: Path) -> None:
    one, same, other = (_write(Cache(tmp_path / name), weights=name[:1].encode()) for name in ("a1", "a2", "b"))
    assert one.content == same.content != other.content
    draft = Cache(tmp_path / "c").draft("evaluate", KEY)
    assert Cache(tmp_path / "c").seal(draft, "evaluate", KEY, ABOUT, 0.0).content == ""


@pytest.mark.parametrize("name", ["files/weights.pt", "entries.jsonl", "sealed.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "missing"])
def test_a_damaged_record_is_named_and_set_aside(
    tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Cache(tmp_path)
    path = _write(cache).folder / name
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if damage == "cut" else bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(DamagedRecord, match=path.name):
        read_record(path.parents[len(Path(name).parts) - 1])
    with caplog.at_level(logging.WARNING, "flows"):
        assert cache.find("train", KEY) is None
    assert f"{path}" in caplog.text
    assert "train is done again" in caplog.text
    assert not (tmp_path / "train" / KEY).exists()
    assert len(list((tmp_path / "aside").iterdir())) == 1


def test_a_file_that_was_never_sealed_damages_a_record(tmp_path: Path) -> None:
    record = _write(Cache(tmp_path))
    (record.files / "stray").write_bytes(b"")
    with pytest.raises(DamagedRecord, match="stray"):
        read_record(record.folder)


def test_a_second_writer_waits_for_the_first(tmp_path: Path) -> None:
    order: list[str] = []

    def write(name: str) -> None:
        with Cache(tmp_path).locked("train", KEY):
            order.append(f"{name} begins")
            time.sleep(0.2)
            order.append(f"{name} ends")

    threads = [threading.Thread(target=write, args=(name,)) for name in ("one", "other")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = order[0].split()[0], order[2].split()[0]
    assert order == [f"{first} begins", f"{first} ends", f"{second} begins", f"{second} ends"]


def test_writers_that_come_at_once_to_a_new_cache_set_nothing_aside(tmp_path: Path) -> None:
    together = threading.Barrier(4)

    def write(folder: Path, name: str) -> None:
        together.wait()
        with Cache(folder).locked("train", name):
            pass

    with ThreadPoolExecutor(4) as pool:
        for number in range(200):
            folder = tmp_path / str(number)
            for attempt in [pool.submit(write, folder, name) for name in "abcd"]:
                attempt.result()
            assert not (folder / ASIDE).exists(), number


def test_a_folder_that_cannot_be_made_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file")
    for attempt in (lambda: cache.draft("train", KEY), lambda: cache.lock("train")):
        with pytest.raises(CacheError, match=r"cannot be written to .*cache=none"):
            attempt()
