"""A service that vanishes at a seeded random moment of a flow: one line, and the same command goes on.

`python -m benchmarks.vanish` tries many moments of all services, and prints a table. An MLflow server that goes is
tried by test_server_away, a Dask worker by test_cluster.
"""

from pathlib import Path

import pytest

from benchmarks.vanish import STAGES, vanish_often

SERVICES = [name for name in STAGES if name not in ("MLflow server", "Dask worker")]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_that_vanishes_is_one_line_and_the_same_command_comes_to_what_an_undisturbed_one_comes_to(
    prefect_server: None, tmp_path: Path, service: str
) -> None:
    # A seed whose moments all lie in the middle, for one near the end is drawn anew where the machine is faster.
    [found] = vanish_often(tmp_path, service, times=1, seed=267)
    assert found["faults"] == []
    assert found["code"] == (2 if found["said"] else 0)
    if service == "Prefect server":
        assert all("Prefect server http://127.0.0.1:" in line and "sqlite:///" in line for line in found["said"])
