"""A cache's folder: whose it is, what is removed from it, and what is left alone."""

import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.cache import Cache, Record, key_digest
from flows.cache.folder import DAY, KEPT_DAYS
from flows.cache.location import cache_of
from flows.cache.marker import ASIDE, LOCKS, MARKER
from flows.config.entry_points import ENTRY_POINTS
from flows.config.settings import Settings
from flows.errors import CacheError
from flows.pipelines.preparation import prepare_flow

LONG_AGO = time.time() - (KEPT_DAYS + 1) * DAY


def write(cache: Cache, name: str, task: str = "train") -> Record:
    about = {"task": task, "name": name}
    with cache.locked(task, key_digest(about)):
        draft = cache.draft(task, key_digest(about))
        (draft.files / "weights.pt").write_bytes(name.encode())
        return cache.seal(draft, task, key_digest(about), about, 1.0)


def find(cache: Cache, name: str, task: str = "train") -> Record | None:
    return cache.find(task, key_digest({"task": task, "name": name}))


def age(*paths: Path) -> None:
    for path in paths:
        os.utime(path, (LONG_AGO, LONG_AGO), follow_symlinks=False)


def everything(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Somebody's folder, two levels deep and older than a month."""
    root = tmp_path / "files"
    for name in ("thesis/chapter.tex", "thesis/old/figure.png", "letters/one.txt", ".profile"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("mine")
    age(*root.rglob("*"))
    return root


def test_a_folder_with_anything_in_it_is_refused_and_left_as_it_was(files: Path) -> None:
    before = everything(files)
    cache = Cache(files)
    for attempt in (cache.forget, lambda: cache.lock("folder"), lambda: cache.draft("train", "0" * 32)):
        with pytest.raises(CacheError, match=r"not empty and no cache of this project \(it holds \.profile\).*none"):
            attempt()
    assert everything(files) == before


@pytest.mark.parametrize("way", ["setting", "variable", "home", "data_root", "link"])
def test_it_is_refused_however_it_is_named_before_anything_is_written(
    files: Path, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {"tracking_uri": f"sqlite:///{tmp_path / 'm.db'}"}
    if way == "variable":
        monkeypatch.setenv("CRITICAL_NEURONS_CACHE", str(files))
    elif way == "home":
        monkeypatch.setenv("HOME", str(files))
        words["cache"] = "~"
    elif way == "link":
        (tmp_path / "link").symlink_to(files)
        words["cache"] = str(tmp_path / "link")
    else:
        words["cache"] = str(files)
        words |= {"data_root": str(files)} if way == "data_root" else {}
    before = everything(files)
    with pytest.raises(CacheError, match="not empty and no cache of this project"):
        prepare_flow(ENTRY_POINTS["train"], words)
    assert everything(files) == before
    assert not (tmp_path / "m.db").exists()


@pytest.mark.parametrize("made", [False, True], ids=["new", "empty"])
def test_a_new_or_an_empty_folder_becomes_a_cache(tmp_path: Path, made: bool) -> None:
    root = tmp_path / "above" / "cache"
    if made:
        root.mkdir(parents=True)
    with cache_of(Settings(cache=str(root))) as cache:
        written = write(cache, "one")
        assert find(cache, "one") == written
    assert (root / MARKER).is_file()


def test_a_cache_of_an_earlier_version_is_taken_over(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    written = write(cache, "one", task="score set")
    cache.draft("train", "0" * 32)
    (tmp_path / MARKER).unlink()
    assert find(cache, "one", task="score set") == written
    cache.lock("folder")
    assert (tmp_path / MARKER).is_file()


def add_file(root: Path) -> None:
    (root / "notes.txt").write_text("mine")


def add_folder(root: Path) -> None:
    (root / "thesis" / "chapters").mkdir(parents=True)


def add_to_task(root: Path) -> None:
    (root / "train" / "model.pt").write_text("mine")


def add_to_locks(root: Path) -> None:
    (root / LOCKS / "diary.lock").write_text("mine")


def add_key_without_seal(root: Path) -> None:
    (root / "train" / ("f" * 32)).mkdir()


def add_link(root: Path) -> None:
    (root / "linked").symlink_to(root.parent)


@pytest.mark.parametrize("add", [add_file, add_folder, add_to_task, add_to_locks, add_key_without_seal, add_link])
def test_a_cache_of_an_earlier_version_with_anything_else_in_it_is_refused(
    tmp_path: Path, add: Callable[[Path], None]
) -> None:
    cache = Cache(tmp_path / "cache")
    write(cache, "one")
    (cache.root / MARKER).unlink()
    add(cache.root)
    before = everything(cache.root)
    with pytest.raises(CacheError, match="not empty and no cache of this project"):
        cache.forget()
    assert everything(cache.root) == before


def test_records_drafts_and_locks_of_no_use_for_a_month_are_forgotten_and_nothing_else(tmp_path: Path) -> None:
    root, mine = tmp_path / "cache", tmp_path / "mine"
    cache = Cache(root)
    mine.mkdir()
    (mine / "file").write_text("mine")
    old, used, damaged = (write(cache, name) for name in ("old", "used", "damaged"))
    draft = cache.draft("train", "0" * 32)
    (damaged.folder / "sealed.json").write_text("{")
    kept = ["train/notes.txt", "train/thesis/chapter.tex", "letters/one.txt", "diary"]
    for name in kept:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("mine")
    links = {"train/" + "a" * 32: mine, "train/" + "b" * 32: tmp_path / "nowhere", "linked": mine, "loop": root}
    for name, target in links.items():
        (root / name).symlink_to(target)
    (old.folder / "files" / "link").symlink_to(mine)
    os.mkfifo(root / "train" / "pipe")
    age(*root.rglob("*"), *mine.rglob("*"))
    assert find(cache, "used") == used
    assert cache.forget() == 2
    assert not old.folder.exists()
    assert not draft.folder.exists()
    assert find(cache, "used") == used
    assert damaged.folder.is_dir()
    assert [name for name in kept if not (root / name).is_file()] == []
    assert [name for name in links if not (root / name).is_symlink()] == []
    assert (mine / "file").read_text() == "mine"
    assert [path for path in (root / LOCKS).glob("*.lock") if path.stat().st_mtime <= LONG_AGO] == []


def test_what_another_process_is_at_is_not_forgotten(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    record = write(cache, "old")
    age(record.folder, *(tmp_path / LOCKS).iterdir())
    with Cache(tmp_path).locked("train", record.folder.name):
        assert cache.forget() == 0
        assert record.folder.is_dir()
        assert list((tmp_path / LOCKS).glob("*.lock"))
    assert cache.forget() == 1


@pytest.mark.parametrize("what", ["link", "broken link", "loop", "file", "pipe", "empty folder", "folder"])
@pytest.mark.parametrize("where", ["record", "file", "seal", "files", "task", "locks", "lock", "marker", "aside"])
def test_whatever_stands_where_a_part_of_a_record_should_be_is_named_set_aside_and_the_record_written_again(
    tmp_path: Path, what: str, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    mine, cache = tmp_path / "mine", Cache(tmp_path / "cache")
    record = write(cache, "one")
    shutil.copytree(cache.root, mine)
    place = {
        "record": record.folder,
        "file": record.files / "weights.pt",
        "seal": record.folder / "sealed.json",
        "files": record.files,
        "task": record.folder.parent,
        "locks": cache.root / LOCKS,
        "lock": cache.root / LOCKS / f"train-{record.folder.name}.lock",
        "marker": cache.root / MARKER,
        "aside": cache.root / ASIDE,
    }[where]
    target = mine / place.relative_to(cache.root)
    if where == "aside":
        target.mkdir()
    elif place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()
    if what in ("link", "broken link", "loop"):
        place.symlink_to({"link": target, "broken link": tmp_path / "nowhere", "loop": place}[what])
    elif what == "file":
        place.write_text("mine")
    elif what == "pipe":
        os.mkfifo(place)
    else:
        place.mkdir()
        if what == "folder":
            (place / "mine.txt").write_text("mine")
    before = everything(mine)
    with caplog.at_level(logging.WARNING, "flows"):
        found = find(cache, "one")
        assert (found == record) is (where in ("locks", "lock", "marker", "aside"))
        again = write(cache, "one")
        cache.forget()
    fits = "folder" in what if where in ("task", "locks") else what == "file" and where in ("lock", "marker")
    assert (f"{place}" in caplog.text) is not (fits or where == "aside")
    assert (again.files / "weights.pt").read_bytes() == b"one"
    assert find(cache, "one") == again
    assert everything(mine) == before
    if what == "folder" and where != "aside":
        assert len(list(cache.root.rglob("mine.txt"))) == 1
