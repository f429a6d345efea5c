"""Pages of the UI: those of runs, and a view of an experiment's runs with the columns that matter in front."""

import json
from collections.abc import Mapping, Sequence

from mlflow import MlflowClient

from flows.redaction import MARK, redacted
from flows.tracking.stores.addresses import HTTP, scheme_of

LOCAL_UI = "http://127.0.0.1:5000"  # of `mlflow ui`, unless told otherwise
TRAINING = "workflowType=machine_learning"  # the side of the UI with runs in front, which else opens on GenAI
MARGIN, LETTER = 40, 8  # pixels, so that no name of a column is cut short
VIEW = "critical-neurons"  # the key in the link
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"  # as the UI's own button Share writes it
# Accuracy and size of the final network, what it came from, and those of single stages.
COLUMNS = (
    *("accuracy_compacted", "parameters", "multiply_adds", "accuracy_retrained", "accuracy_pruned", "accuracy_trained"),
    *("parameters_ratio", "multiply_adds_ratio", "test_accuracy"),
)


def offer_view(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> None:
    """Store the view with an experiment, whose tags are given, unless it is there."""
    state = view_of(COLUMNS)
    if tags.get(VIEW_TAG) != state:
        client.set_experiment_tag(experiment_id, VIEW_TAG, state)


def view_of(metrics: Sequence[str]) -> str:
    """The state of a table of runs that shows these metrics first, and then the models, as the UI reads it."""
    columns = [f"metrics.`{name}`" for name in metrics]
    shown = [*columns, "attributes.`Models`"]
    widths = {column: MARGIN + LETTER * len(name) for column, name in zip(columns, metrics, strict=True)}
    return json.dumps({"selectedColumns": shown, "columnOrder": shown, "columnWidths": widths})


def view_page(uri: str, experiment_id: str) -> str:
    """The address of the view in the UI on a store."""
    return f"{_ui(uri)}/#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}&{TRAINING}"


def run_page(uri: str, experiment_id: str, run_id: str) -> str:
    """The address of a run in the UI on a store."""
    return f"{_ui(uri)}/#/experiments/{experiment_id}/runs/{run_id}?{TRAINING}"


def _ui(uri: str) -> str:
    """The address of the UI: that of a server without its secret, for which a browser asks, or of a UI started here."""
    if scheme_of(uri) not in HTTP:
        return LOCAL_UI
    return redacted(uri, uri).replace(f"{MARK}@", "").partition("?")[0].rstrip("/")
