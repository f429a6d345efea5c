"""The Prefect flows: train -> sample -> score (mapped, averaged) -> prune -> evaluate -> retrain -> compact.

`gradual_flow` trains and removes by turns. Every flow has one MLflow run with a nested run per stage; single stages
continue from what an earlier run logged. Questions asked of many networks are in `flows.pipelines.experiments`.
"""

from prefect import flow

from flows import tracking
from flows.config import ENTRY_POINTS, Settings
from flows.errors import FlowError
from flows.execution import tasks
from flows.own_server import begin_own_server, own_server_answering
from flows.pipelines import stage_runs
from flows.pipelines.experiments import reproduce_flow, robustness_flow, sweep_flow, transfer_flow
from training import TrainingError


@flow(name="main")
def main_flow(settings: Settings) -> str:
    """The whole way, from data to the compacted network; the id of the run on top."""
    with stage_runs.flow_run("main", settings) as parent:
        trained = stage_runs.train_stage(settings, parent)
        scored = stage_runs.score_stage(settings, parent, trained)
        pruned = stage_runs.prune_stage(settings, parent, scored, trained)
        retrained = stage_runs.retrain_stage(settings, parent, pruned, final=False)
        headed = stage_runs.heads_of(scored)
        heads = {"heads": headed} if headed and headed != trained else {}
        stages = {"train": trained, **heads, "score": scored, "prune": pruned, "retrain": retrained}
        try:
            stages["compact"] = stage_runs.compact_stage(settings, parent, retrained)
        except (FlowError, TrainingError):
            # The way so far is worth a summary and a model: what cannot be made smaller is pruned all the same.
            tasks.summarise(settings, parent, stages)
            tasks.log_masked(settings, retrained, parent)
            raise
        tasks.summarise(settings, parent, stages)
    return parent.run_id


@flow(name="train")
def train_flow(settings: Settings) -> str:
    """Train a network; the id of the run on top."""
    with stage_runs.flow_run("train", settings) as parent:
        stage_runs.train_stage(settings, parent)
    return parent.run_id


@flow(name="score")
def score_flow(settings: Settings) -> str:
    """Score the network that run `settings.run_id` trained; the id of the run on top."""
    with stage_runs.flow_run("score", settings) as parent:
        stage_runs.score_stage(settings, parent, stage_runs.earlier(settings, "train"))
    return parent.run_id


@flow(name="prune")
def prune_flow(settings: Settings) -> str:
    """Prune the network that run `settings.run_id` scored; the id of the run on top."""
    with stage_runs.flow_run("prune", settings) as parent:
        scored = stage_runs.earlier(settings, "score")
        stage_runs.prune_stage(settings, parent, scored, tracking.find_stage(scored, "train"), final=True)
    return parent.run_id


@flow(name="retrain")
def retrain_flow(settings: Settings) -> str:
    """Retrain the network that run `settings.run_id` pruned; the id of the run on top."""
    with stage_runs.flow_run("retrain", settings) as parent:
        stage_runs.retrain_stage(settings, parent, stage_runs.earlier(settings, "prune"))
    return parent.run_id


@flow(name="compact")
def compact_flow(settings: Settings) -> str:
    """Compact the network that run `settings.run_id` retrained or pruned, gradually too; the id of the run on top."""
    with stage_runs.flow_run("compact", settings) as parent:
        stage_runs.compact_stage(settings, parent, stage_runs.earlier(settings, *ENTRY_POINTS["compact"].continues))
    return parent.run_id


@flow(name="gradual")
def gradual_flow(settings: Settings) -> str:
    """Train a network and remove units in steps; the id of the run on top."""
    with stage_runs.flow_run("gradual", settings) as parent:
        stage_runs.gradual_stage(settings, parent)
    return parent.run_id


@flow(name="check")
def check_flow(settings: Settings) -> str:
    """Check every solution of run `settings.run_id` again; the id of the run on top."""
    with stage_runs.flow_run("check", settings) as parent:
        stage_runs.check_stage(settings, parent, stage_runs.earlier(settings, "score"))
    return parent.run_id


EXPERIMENTS = (transfer_flow, reproduce_flow, sweep_flow, robustness_flow)
FLOWS = {
    each.name: each
    for each in (
        main_flow,
        train_flow,
        score_flow,
        prune_flow,
        retrain_flow,
        compact_flow,
        gradual_flow,
        check_flow,
        *EXPERIMENTS,
    )
}


def run_flow(name: str, settings: Settings) -> str:
    """Run a flow by its name; the id of the run on top. Where no Prefect server is named, this process has its own."""
    begin_own_server()
    with own_server_answering():
        return FLOWS[name](settings)
