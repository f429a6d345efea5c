"""The same against an MLflow server on PostgreSQL with a folder of artifacts: docs/tracking-server.md."""

from pathlib import Path

import pytest

from tests.flows.backends.commands import two_at_a_time
from tests.flows.backends.servers import postgresql, tracking_server
from tests.flows.backends.test_concurrency import require_complete

TWO = ("0", "0")  # the very same command


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_flows_at_the_same_time_on_a_server_with_postgresql_are_complete_runs(
    prefect_server: None, tmp_path: Path
) -> None:
    with postgresql() as database, tracking_server(tmp_path / "server", database) as server:
        ended = two_at_a_time(tmp_path / "flows", server.uri, tmp_path / "cache", TWO)
        assert [(each.code, each.errors) for each in ended] == [(0, [])] * len(TWO), ended
        assert not [each.log for each in ended if "Traceback" in each.log]
        require_complete(server.uri, TWO, tmp_path)
    assert list((tmp_path / "server" / "artifacts").rglob("masks.npz"))
