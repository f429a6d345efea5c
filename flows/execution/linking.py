"""The way from an MLflow run to the Prefect run that made it, and back; and how far its programs are."""

import logging
import time
from collections.abc import Callable
from uuid import UUID

from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.runtime import flow_run

from flows import tracking
from flows.redaction import redacted
from flows.tracking import Run
from flows.tracking.stores import run_page

LOG = logging.getLogger(__name__)
ARTIFACT, PROGRESS = "mlflow-run", "programs_done"


def prefect_tags() -> dict[str, str]:
    """The tags that name the Prefect run of this flow; none outside one."""
    if (number := flow_run.get_id()) is None:
        return {}
    return {"prefect.flow_run": number, "prefect.flow_run_name": str(flow_run.get_name())}


def show_in_prefect(run: Run, title: str) -> None:
    """Give the Prefect run of this flow an artifact that leads to an MLflow run; nothing outside a flow."""
    if flow_run.get_id() is not None:
        create_markdown_artifact(_way_to(run, title), key=ARTIFACT, description=f"MLflow run {run.run_id}")


def progress_of(run: Run) -> Callable[[int, int, str], None]:
    """What tells how many programs of a run are solved: the log, the run's metric `programs_done`, Prefect's UI."""
    start = time.monotonic()
    # A run that goes on after an interruption has been told of those that were solved before.
    told = run.metrics().get(PROGRESS, 0.0)
    bar = create_progress_artifact(0.0, description="programs solved") if flow_run.get_id() is not None else None

    def report(done: int, total: int, name: str) -> None:
        seconds = time.monotonic() - start
        left = f", about {seconds / done * (total - done):.0f} s to go" if done < total else f" in {seconds:.1f} s"
        LOG.info("score    %d of %d programs solved (%s)%s", done, total, name, left)
        if done > told:
            tracking.telling_at_once(run).add_metrics({PROGRESS: float(done)}, step=done)
        if isinstance(bar, UUID):
            update_progress_artifact(bar, 100.0 * done / total)

    return report


def _way_to(run: Run, title: str) -> str:
    page = run_page(run.uri, run.experiment_id, run.run_id)
    if run.uri.startswith(("http://", "https://")):
        return f"[{title}]({page})"
    return (
        f"MLflow run `{run.run_id}`: {title}\n\n```\nmlflow ui --backend-store-uri {redacted(run.uri)}\n```\n\n"
        f"and then [{page.partition('?')[0]}]({page})"
    )
