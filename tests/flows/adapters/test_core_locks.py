"""A core for every solver, whatever else runs on the machine."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.adapters.core_locks import cores, free_core, require_locks
from flows.errors import LockError
from tests.flows.execution.runners.trials import at_once

ROOT = Path(__file__).resolve().parents[3]
# Loads the module without its room, whose imports take seconds, and says so; then holds so many cores at a time, again
# and again, in threads, and says from when to when.
HOLD = """
import importlib.util, sys, time
from concurrent.futures import ThreadPoolExecutor
spec = importlib.util.spec_from_file_location("core_locks", "flows/adapters/core_locks.py")
core_locks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(core_locks)
threads, times, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
print("ready", flush=True)
def hold(_):
    with core_locks.free_core(threads):
        start = time.time()
        time.sleep(seconds)
        return start, time.time()
with ThreadPoolExecutor(8) as pool:
    for start, end in pool.map(hold, range(times)):
        print(threads, start, end, flush=True)
"""


def _held(place: Path, threads: int, times: int, seconds: float) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", HOLD, str(threads), str(times), str(seconds)]
    environment = os.environ | {"TMPDIR": str(place)}
    return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def _require_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def test_two_processes_never_hold_more_cores_than_there_are_and_never_wait_for_each_other(tmp_path: Path) -> None:
    several = max(1, len(cores()) - 1)
    processes = [_held(tmp_path, threads, 8, 0.1) for threads in (1, several, len(cores()))]
    lines = [line.split() for process in processes for line in process.communicate()[0].splitlines() if line != "ready"]
    assert len(lines) == 24
    spans = [(float(start), float(end)) for threads, start, end in lines for _ in range(int(threads))]
    assert at_once(spans) <= len(cores())


def test_a_killed_process_gives_its_cores_back(tmp_path: Path) -> None:
    greedy = _held(tmp_path, len(cores()), 1, 1000.0)
    second = None
    try:
        folder = tmp_path / f"critical-neurons-{os.getuid()}"
        _require_ready(greedy)
        while not list(folder.glob("core-*")):
            time.sleep(0.1)
        time.sleep(0.5)
        second = _held(tmp_path, 1, 1, 0.1)
        _require_ready(second)
        with pytest.raises(subprocess.TimeoutExpired):
            second.communicate(timeout=2)
        greedy.kill()
        assert len(second.communicate(timeout=60)[0].splitlines()) == 1
    finally:
        for process in filter(None, (greedy, second)):
            process.kill()
            process.wait()


LAID = {
    "no folder": lambda place, target: place.write_text("somebody's"),
    "a link": lambda place, target: place.symlink_to(target),
    r"writable by others \(mode 770\)": lambda place, target: (place.mkdir(), place.chmod(0o770)),
    r"writable by others \(mode 1777\)": lambda place, target: (place.mkdir(), place.chmod(0o1777)),
    "closed to its owner": lambda place, target: (place.mkdir(), place.chmod(0o500)),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path / f"critical-neurons-{os.getuid()}"


@pytest.mark.parametrize("says", LAID)
def test_a_lock_folder_that_is_not_ours_alone_is_refused_in_one_line_and_left_as_it_is(place: Path, says: str) -> None:
    target = place.with_name("target")
    target.mkdir()
    (target / "core-0.lock").write_text("somebody's")
    LAID[says](place, target)
    before = sorted(place.parent.rglob("*"))
    for begin in (require_locks, lambda: free_core(1).__enter__()):
        with pytest.raises(LockError, match=says) as refusal:
            begin()
        assert len(str(refusal.value).splitlines()) == 1
    assert sorted(place.parent.rglob("*")) == before
    assert (target / "core-0.lock").read_text() == "somebody's"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_lock_folder_of_another_user_is_refused(place: Path) -> None:
    place.mkdir(mode=0o700)
    os.chown(place, 12345, -1)
    with pytest.raises(LockError, match=r"of another user \(number 12345\)"):
        require_locks()


def test_a_lock_that_is_a_folder_or_a_temporary_folder_that_is_gone_is_one_line(place: Path) -> None:
    place.mkdir(mode=0o700)
    (place / "next.lock").mkdir()
    with pytest.raises(LockError, match=r"next\.lock of a core cannot be held"), free_core(1):
        pass
    (place / "next.lock").rmdir()
    place.rmdir()
    require_locks()
    assert not place.exists()
    place.parent.rmdir()
    with pytest.raises(LockError, match="cannot be made"), free_core(1):
        pass
