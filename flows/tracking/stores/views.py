"""Pages of the UI: those of runs, and a view of an experiment's runs with the columns that matter in front."""

import json
from collections.abc import Mapping, Sequence

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from flows.config import COLUMNS
from flows.redaction import MARK, redacted
from flows.tracking.stores.addresses import HTTP, scheme_of

LOCAL_UI = "http://127.0.0.1:5000"  # of `mlflow ui`, unless told otherwise
TRAINING = "workflowType=machine_learning"  # the side of the UI with runs in front, which else opens on GenAI
MARGIN, LETTER = 40, 8  # pixels, so that no name of a column is cut short
VIEW = "critical-neurons"  # the key in the link
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"  # as the UI's own button Share writes it
NOTE_TAG = "mlflow.note.content"
# In one paragraph, the link first: the UI shows one line until it is unfolded.
NOTE = (
    "[All runs in a table]({}), accuracy and size first, then what was chosen. Networks whose units were scored, "
    "removed and refitted: one run per flow with what came of it in its description, a nested run per stage."
)
# Accuracy and size of the final network; what was chosen; the models; then what it came from, and single stages.
FIRST = ("accuracy_compacted", "parameters", "multiply_adds")
FURTHER = (
    *("accuracy_retrained", "accuracy_pruned", "accuracy_trained"),
    *("parameters_ratio", "multiply_adds_ratio", "test_accuracy"),
)
MODELS = "attributes.`Models`"


def offer_view(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> None:
    """Store the view with an experiment, whose tags are given, and a description that leads to it where there is none.

    A description that is there already is left alone, and so is what another flow is storing; an older view is renewed.
    """
    wanted = {VIEW_TAG: view_of(FIRST, COLUMNS, FURTHER)}
    if NOTE_TAG not in tags:
        # Without an address: the link holds wherever the UI is.
        wanted[NOTE_TAG] = NOTE.format(f"#{_runs(experiment_id)}?viewStateShareKey={VIEW}&{TRAINING}")
    for key, value in wanted.items():
        if tags.get(key) != value:
            _store_tag(client, experiment_id, key, value)


def _store_tag(client: MlflowClient, experiment_id: str, key: str, value: str) -> None:
    try:
        client.set_experiment_tag(experiment_id, key, value)
    except MlflowException:
        # Of two that store a new tag at once, a database server refuses one.
        if client.get_experiment(experiment_id).tags.get(key) != value:
            raise


def view_of(first: Sequence[str], chosen: Sequence[str], further: Sequence[str]) -> str:
    """The state of a table of runs as the UI reads it: some metrics, parameters, the models, and further metrics."""
    front = [*(f"metrics.`{name}`" for name in first), *(f"params.`{name}`" for name in chosen)]
    back = [f"metrics.`{name}`" for name in further]
    widths = {column: MARGIN + LETTER * len(column.split("`")[1]) for column in (*front, *back)}
    shown = [*front, MODELS, *back]
    return json.dumps({"selectedColumns": shown, "columnOrder": shown, "columnWidths": widths})


def view_page(uri: str, experiment_id: str) -> str:
    """The address of the view in the UI on a store."""
    return f"{_ui(uri)}/#{_runs(experiment_id)}?viewStateShareKey={VIEW}&{TRAINING}"


def run_page(uri: str, experiment_id: str, run_id: str) -> str:
    """The address of a run in the UI on a store."""
    return f"{_ui(uri)}/#{_runs(experiment_id)}/{run_id}?{TRAINING}"


def _runs(experiment_id: str) -> str:
    return f"/experiments/{experiment_id}/runs"


def _ui(uri: str) -> str:
    """The address of the UI: that of a server without its secret, for which a browser asks, or of a UI started here."""
    if scheme_of(uri) not in HTTP:
        return LOCAL_UI
    return redacted(uri, uri).replace(f"{MARK}@", "").partition("?")[0].rstrip("/")
