"""Views of an experiment's runs that the UI opens by a link: the columns that matter come first."""

import json
from collections.abc import Mapping, Sequence

from mlflow import MlflowClient

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
    return json.dumps({"selectedColumns": shown, "columnOrder": shown})


def view_place(experiment_id: str) -> str:
    """Where the view is in the UI, behind its address."""
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}"
