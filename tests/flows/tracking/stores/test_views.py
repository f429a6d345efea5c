"""The description of an experiment, which leads to the view of its runs."""

from pathlib import Path

from mlflow import MlflowClient

from flows import tracking
from tests.flows.small_run import store_in

NOTE = "mlflow.note.content"


def test_an_experiment_gets_a_description_that_leads_to_its_view_and_keeps_its_own(tmp_path: Path) -> None:
    uri = store_in(tmp_path)
    made = tracking.open_store(uri, "new").experiment_id
    client = MlflowClient(uri)
    link = f"(#/experiments/{made}/runs?viewStateShareKey=critical-neurons&workflowType=machine_learning)"
    assert link in client.get_experiment(made).tags[NOTE]
    client.set_experiment_tag(made, NOTE, "mine")
    tracking.open_store(uri, "new")
    assert client.get_experiment(made).tags[NOTE] == "mine"
