"""Probe of a cluster's workers: their machine, code and reach, and the words for what one lacks."""

import socket
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.execution.cluster_probe import Asked, Seen, fault_of, nearest_store, see


def test_a_process_that_is_asked_for_nothing_has_no_fault() -> None:
    seen = see(Asked())
    assert (seen.machine, seen.missing) == (socket.gethostname(), ())
    assert fault_of(seen) == ""


def test_a_store_that_is_still_to_be_made_is_looked_for_at_the_nearest_folder(tmp_path: Path) -> None:
    assert nearest_store(f"sqlite:///{tmp_path}/a/b.db") == f"sqlite:///{tmp_path}"
    (tmp_path / "there.db").touch()
    assert nearest_store(f"sqlite:///{tmp_path}/there.db") == f"sqlite:///{tmp_path}/there.db"
    assert nearest_store("http://host:5000") == "http://host:5000"


def test_what_cannot_be_reached_is_named(tmp_path: Path) -> None:
    server = "http://127.0.0.1:9/api"  # the discard port: nobody answers
    seen = see(Asked(f"sqlite:///{tmp_path}/gone", server))
    fault = fault_of(seen)
    assert fault.startswith(f"cannot reach the tracking store in {tmp_path}/gone")
    assert f"and the Prefect server {server} (start it with" in fault


def test_other_code_another_machine_and_an_import_that_fails_are_told_apart() -> None:
    here = see(Asked())
    room, digest = next(iter(here.code.items()))
    assert fault_of(Seen(here.machine, {**here.code, room: "0" * 12}, ())) == (
        f"has another code of {room} ({'0' * 12}) than this process ({digest})"
    )
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert fault_of(Seen("elsewhere", here.code, ())).startswith("is on another machine (elsewhere)")
    assert fault_of(ImportError("no\nmodule")) == "cannot import this project (ImportError: no module)"


@pytest.mark.parametrize("secret", ["store", "server"])
def test_addresses_are_not_shown(secret: str) -> None:
    assert "token" not in repr(Asked(**{secret: "http://token@host"}))
