"""The way from an MLflow run to the Prefect run that made it, and back."""

import re

from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from flows.tracking import Run

ARTIFACT = "mlflow-run"


def prefect_tags() -> dict[str, str]:
    """The tags that name the Prefect run of this flow; none outside one."""
    if (number := flow_run.get_id()) is None:
        return {}
    return {"prefect.flow_run": number, "prefect.flow_run_name": str(flow_run.get_name())}


def show_in_prefect(run: Run, title: str) -> None:
    """Give the Prefect run of this flow an artifact that leads to an MLflow run; nothing outside a flow."""
    if flow_run.get_id() is not None:
        create_markdown_artifact(_way_to(run, title), key=ARTIFACT, description=f"MLflow run {run.run_id}")


def _way_to(run: Run, title: str) -> str:
    place = f"#/experiments/{run.experiment_id}/runs/{run.run_id}"
    if run.uri.startswith(("http://", "https://")):
        address = re.sub(r"//[^/@]*@", "//", run.uri.rstrip("/"))
        return f"[{title}]({address}/{place})"
    return (
        f"MLflow run `{run.run_id}`: {title}\n\n```\nmlflow ui --backend-store-uri {run.uri}\n```\n\n"
        f"and then [http://127.0.0.1:5000/{place}](http://127.0.0.1:5000/{place})"
    )
