"""The check of a run whose solutions hold and are not proved optimal: a line and code 3."""

import re

import pytest
from mlflow import MlflowClient

from flows import tracking
from flows.__main__ import main
from flows.errors import NotProvedOptimal
from tests.flows.small_run import PATTERN, RunStage


def test_a_status_other_than_optimal_ends_the_check_with_a_line_and_code_3(
    run_stage: RunStage, client: MlflowClient, trained_briefly: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No solver closes a gap of 1e-15: the search stalls, or its time is over."""
    given = {**PATTERN, "images_per_class": "1", "scoring_sets": "1", "gap": "1e-15", "time_limit": "15"}
    above = run_stage("score", run_id=trained_briefly, **given)
    scored = tracking.find_stage(tracking.find_run(client.tracking_uri, above), "score")
    assert scored.tags()["certificate.status"] in ("stalled", "time_limit")
    capsys.readouterr()
    assert main(["check", "--run_id", above, "--tracking_uri", client.tracking_uri, "--exact", "true"]) == 3
    said = capsys.readouterr()
    [line] = [each for each in said.err.splitlines() if each.startswith("error: ")]
    assert re.search(r"all 1 solutions hold, and 1 of them are not proved optimal \(.*(stalled|time_limit) at", line)
    assert "not proved: other scores with an objective within the gap may exist" in said.out
    assert "proved with outward rounding" in said.out
    assert NotProvedOptimal.exit_code == 3
