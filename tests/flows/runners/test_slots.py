"""A core for every solver, whatever else runs on the machine."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.slots import cores
from tests.flows.runners.trials import at_once

ROOT = Path(__file__).resolve().parents[3]
# Holds so many cores at a time, again and again, in threads, and says from when to when.
HOLD = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from flows.slots import free_core
threads, times, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
def hold(_):
    with free_core(threads):
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


@pytest.mark.timeout(120)
def test_two_processes_never_hold_more_cores_than_there_are_and_never_wait_for_each_other(tmp_path: Path) -> None:
    several = max(1, len(cores()) - 1)
    processes = [_held(tmp_path, threads, 8, 0.1) for threads in (1, several, len(cores()))]
    lines = [line.split() for process in processes for line in process.communicate(timeout=100)[0].splitlines()]
    assert len(lines) == 24
    spans = [(float(start), float(end)) for threads, start, end in lines for _ in range(int(threads))]
    assert at_once(spans) <= len(cores())


@pytest.mark.timeout(60)
def test_a_killed_process_gives_its_cores_back(tmp_path: Path) -> None:
    greedy = _held(tmp_path, len(cores()), 1, 1000.0)
    second = None
    try:
        folder = tmp_path / f"critical-neurons-{os.getuid()}"
        while not list(folder.glob("core-*")):
            time.sleep(0.1)
        time.sleep(0.5)
        second = _held(tmp_path, 1, 1, 0.1)
        with pytest.raises(subprocess.TimeoutExpired):
            second.communicate(timeout=3)
        greedy.kill()
        assert len(second.communicate(timeout=20)[0].splitlines()) == 1
    finally:
        for process in filter(None, (greedy, second)):
            process.kill()
            process.wait()
