"""Whose runs are ended: those of processes that are known to be gone, and of no others."""

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows import tracking
from flows.tracking import processes
from flows.tracking.processes import is_elsewhere, is_gone, this_process
from flows.tracking.stores import Store

# Says who it is, then of every line that it reads whether that process is gone.
ASKED = f"""
import runpy, sys
found = runpy.run_path({processes.__file__!r})
print(found["this_process"](), flush=True)
for line in sys.stdin:
    print(found["is_gone"](line.strip()), flush=True)
"""
NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@contextmanager
def _other(*before: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process, and how it describes itself."""
    command = [*before, sys.executable, "-c", ASKED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def _says(process: subprocess.Popen[str], description: str) -> bool:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{description}\n")
    process.stdin.flush()
    return {"True": True, "False": False}[process.stdout.readline().strip()]


def _require_namespaces() -> None:
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed (Debian: util-linux)")
    if subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no PID namespace may be made here (unshare --pid)")


def test_a_process_is_known_to_live_until_it_ends() -> None:
    assert not is_gone(this_process())
    with _other() as (process, description):
        assert not is_gone(description)
        process.kill()
        process.wait()
        assert is_gone(description)


def test_a_process_that_has_ended_is_gone_before_its_parent_looks() -> None:
    with _other() as (process, description):
        process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_gone(description)


def test_a_live_process_in_another_pid_namespace_is_not_gone() -> None:
    _require_namespaces()
    with _other(*NAMESPACE) as (process, description):
        assert description.split()[2] == "1", "the other process is in this namespace"
        assert not is_gone(description)
        assert is_elsewhere(description)
        assert not _says(process, this_process())
        # Nor is one whose number nobody has in the other namespace.
        with _other() as (_, third):
            assert not _says(process, third)


def test_within_its_own_pid_namespace_a_process_is_known_to_be_gone() -> None:
    _require_namespaces()
    with _other(*NAMESPACE) as (process, description):
        host = description.rpartition(" ")[0].rpartition(" ")[0]
        assert _says(process, f"{host} 4000 17")
        assert not _says(process, description)


def test_a_process_without_a_view_of_its_own_namespace_takes_nobody_for_replaced() -> None:
    _require_namespaces()
    # /proc is the outer namespace's, in which number 1 is another process.
    with _other("unshare", "--pid", "--fork", "--kill-child") as (process, description):
        assert not _says(process, description)
        began = description.rpartition(" ")[0]
        assert not _says(process, f"{began} 17")


def _forged() -> dict[str, str]:
    """Descriptions of processes that are not there, nearly as this host would give them."""
    name, identity, number, _ = this_process().split()
    machine, boot, namespace = identity.split("/")
    other = "0" * 36
    return {
        "another host": f"not-{name} {identity} {number} 17",
        "another machine of that name": f"{name} {'0' * 16}/{boot}/{namespace} {number} 17",
        "another boot": f"{name} {machine}/{other}/{namespace} {number} 17",
        "another namespace": f"{name} {machine}/{boot}/pid:[1] {number} 17",
        "an unknown boot": f"{name} {machine}/-/{namespace} {number} 17",
        "an unknown namespace": f"{name} {machine}/{boot}/- {number} 17",
        "as before": f"{name} {number}",
        "as before, with a beginning": f"{name} {number} 17-{boot[:8]}",
        "no number": f"{name} {identity} ten 17",
        "a number in no alphabet": f"{name} {identity} ² 17",
        "a number that is too large": f"{name} {identity} {10**30} 17",
        "no words": "",
    }


@pytest.mark.parametrize("kind", _forged())
def test_nothing_is_known_of_a_process_of_another_host(kind: str) -> None:
    assert not is_gone(_forged()[kind])


@pytest.mark.parametrize("hidden", ["boot_id", "namespace"])
def test_nobody_is_gone_where_this_host_cannot_be_told_from_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hidden: str
) -> None:
    # A /proc that lacks one file; the others are the real ones.
    (tmp_path / "self/ns").mkdir(parents=True)
    (tmp_path / "sys/kernel/random").mkdir(parents=True)
    if hidden != "boot_id":
        shutil.copy("/proc/sys/kernel/random/boot_id", tmp_path / "sys/kernel/random/boot_id")
    if hidden != "namespace":
        (tmp_path / "self/ns/pid").symlink_to(Path("/proc/self/ns/pid").readlink())
    monkeypatch.setattr(processes, "PROC", tmp_path)
    processes.boot_identity.cache_clear()
    try:
        with subprocess.Popen([sys.executable, "-c", "pass"]) as dead:
            dead.wait()
        host = this_process().rsplit(" ", 2)[0]
        assert "-" in host.split()[1].split("/")
        assert not is_gone(f"{host} {dead.pid} 17")
    finally:
        monkeypatch.undo()
        processes.boot_identity.cache_clear()


def test_runs_of_a_dead_process_are_ended_and_those_of_others_are_left(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    client = MlflowClient(store.uri)
    host = this_process().rsplit(" ", 2)[0]
    with subprocess.Popen([sys.executable, "-c", "pass"]) as dead:
        dead.wait()
    owners = {
        "dead": f"{host} {dead.pid} 17",
        "replaced": f"{host} {os.getpid()} 17",
        "forged": _forged()["another boot"],
        "not said where": f"{socket.gethostname()} {dead.pid}",
        "this": this_process(),
        "nobody": None,
    }
    runs = {
        name: client.create_run(
            store.experiment_id, tags={"process": owner, "identity": "the command"} if owner else {}
        ).info.run_id
        for name, owner in owners.items()
    }
    logging.getLogger("flows").propagate = True
    with caplog.at_level(logging.INFO, logger="flows"), tracking.open_flow_run(store, "flow", {}, "the command"):
        pass
    found = {name: client.get_run(run_id).info.status for name, run_id in runs.items()}
    killed = {"dead": "KILLED", "replaced": "KILLED"}
    assert found == {**dict.fromkeys(owners, "RUNNING"), **killed}
    # A set, because a logger with a handler of its own tells the capturing one twice.
    said = {record.getMessage() for record in caplog.records if "left alone" in record.getMessage()}
    assert len(said) == 2
    assert {runs["forged"], runs["not said where"]} == {line.split()[2] for line in said}


def test_the_run_of_a_live_process_in_another_pid_namespace_is_left_open(store: Store) -> None:
    _require_namespaces()
    client = MlflowClient(store.uri)
    with _other(*NAMESPACE) as (_, description):
        run = client.create_run(store.experiment_id, tags={"process": description})
        with tracking.open_flow_run(store, "flow", {}, "the command", resume=True):
            pass
        assert client.get_run(run.info.run_id).info.status == "RUNNING"
