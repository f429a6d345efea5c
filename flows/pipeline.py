"""The Prefect flows: train -> sample -> score (mapped, averaged) -> prune -> evaluate -> retrain -> compact.

`gradual` trains and removes by turns. Every flow has one MLflow run with a nested run per stage; single stages continue
from what an earlier run logged. Questions asked of many networks are in `flows.experiments`.
"""

from prefect import flow

from flows import chain, tasks, tracking
from flows.entry_points import ENTRY_POINTS
from flows.errors import FlowError
from flows.experiments.reproduce import reproduce
from flows.experiments.robustness import robustness
from flows.experiments.sweep import sweep
from flows.experiments.transfer import transfer
from flows.settings import Settings
from training import TrainingError


@flow(name="main")
def main(settings: Settings) -> str:
    """The whole way, from data to the compacted network; the id of the run on top."""
    with chain.flow_run("main", settings) as parent:
        trained = chain.train_stage(settings, parent)
        scored = chain.score_stage(settings, parent, trained)
        pruned = chain.prune_stage(settings, parent, scored, trained)
        retrained = chain.retrain_stage(settings, parent, pruned)
        headed = chain.heads_of(scored)
        heads = {"heads": headed} if headed and headed != trained else {}
        stages = {"train": trained, **heads, "score": scored, "prune": pruned, "retrain": retrained}
        try:
            stages["compact"] = chain.compact_stage(settings, parent, retrained)
        except (FlowError, TrainingError):
            # The way so far is worth its summary: a network that cannot be made smaller is pruned all the same.
            tasks.summarise(settings, parent, stages)
            raise
        tasks.summarise(settings, parent, stages)
    return parent.run_id


@flow(name="train")
def train(settings: Settings) -> str:
    """Train a network; the id of the run on top."""
    with chain.flow_run("train", settings) as parent:
        chain.train_stage(settings, parent)
    return parent.run_id


@flow(name="score")
def score(settings: Settings) -> str:
    """Score the network that run `settings.run_id` trained; the id of the run on top."""
    with chain.flow_run("score", settings) as parent:
        chain.score_stage(settings, parent, chain.earlier(settings, "train"))
    return parent.run_id


@flow(name="prune")
def prune(settings: Settings) -> str:
    """Prune the network that run `settings.run_id` scored; the id of the run on top."""
    with chain.flow_run("prune", settings) as parent:
        scored = chain.earlier(settings, "score")
        chain.prune_stage(settings, parent, scored, tracking.find_stage(scored, "train"))
    return parent.run_id


@flow(name="retrain")
def retrain(settings: Settings) -> str:
    """Retrain the network that run `settings.run_id` pruned; the id of the run on top."""
    with chain.flow_run("retrain", settings) as parent:
        chain.retrain_stage(settings, parent, chain.earlier(settings, "prune"))
    return parent.run_id


@flow(name="compact")
def compact(settings: Settings) -> str:
    """Compact the network that run `settings.run_id` retrained or pruned, gradually too; the id of the run on top."""
    with chain.flow_run("compact", settings) as parent:
        chain.compact_stage(settings, parent, chain.earlier(settings, *ENTRY_POINTS["compact"].continues))
    return parent.run_id


@flow(name="gradual")
def gradual(settings: Settings) -> str:
    """Train a network and remove units in steps; the id of the run on top."""
    with chain.flow_run("gradual", settings) as parent:
        chain.gradual_stage(settings, parent)
    return parent.run_id


@flow(name="check")
def check(settings: Settings) -> str:
    """Check every solution of run `settings.run_id` again; the id of the run on top."""
    with chain.flow_run("check", settings) as parent:
        chain.check_stage(settings, parent, chain.earlier(settings, "score"))
    return parent.run_id


EXPERIMENTS = (transfer, reproduce, sweep, robustness)
FLOWS = {each.name: each for each in (main, train, score, prune, retrain, compact, gradual, check, *EXPERIMENTS)}


def run_flow(name: str, settings: Settings) -> str:
    """Run a flow by its name; the id of the run on top."""
    return FLOWS[name](settings)
