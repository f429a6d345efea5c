"""The stages as Prefect tasks. They hand over run addresses and numbers only, never tensors."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows import handover, stages, tracking
from flows.settings import Settings
from flows.tracking import Run

train = task(name="train", cache_policy=NO_CACHE)(stages.train_network)
sample = task(name="sample", cache_policy=NO_CACHE)(stages.draw_scoring_sets)
score_set = task(name="score set", task_run_name="score set {number}", cache_policy=NO_CACHE)(stages.score_set)
average = task(name="average", cache_policy=NO_CACHE)(stages.average_scores)
prune = task(name="prune", cache_policy=NO_CACHE)(stages.prune_network)
compare = task(name="compare masks", cache_policy=NO_CACHE)(stages.compare_masks)
evaluate = task(name="evaluate", task_run_name="evaluate {name} network", cache_policy=NO_CACHE)(
    stages.evaluate_network
)
retrain = task(name="retrain", cache_policy=NO_CACHE)(stages.retrain_network)
gradual = task(name="gradual", cache_policy=NO_CACHE)(stages.train_gradually)
describe_row = task(name="describe row", cache_policy=NO_CACHE)(stages.describe_row)
tabulate = task(name="tabulate", cache_policy=NO_CACHE)(stages.tabulate)
log_network = task(name="log network", cache_policy=NO_CACHE)(stages.log_final_network)
compact = task(name="compact", cache_policy=NO_CACHE)(stages.compact_network)
check = task(name="check", cache_policy=NO_CACHE)(stages.check_solutions)
summarise = task(name="summarise", cache_policy=NO_CACHE)(stages.summarise)


@task(name="snip", task_run_name="SNIP per {kind}", cache_policy=NO_CACHE)
def train_without(settings: Settings, parent: Run, pruned: Run, kind: str) -> Run:
    """Remove by SNIP, per `unit` or per `connection`, as much as a run did, train and evaluate what is left; its run.

    In a run of its own that is opened here, because several are at work at the same time.
    """
    choose = {"unit": stages.choose_units, "connection": stages.choose_connections}[kind]
    with tracking.open_run(parent, f"SNIP per {kind}", {"stage": "snip", "from.prune": pruned.run_id}) as run:
        handover.save_settings(run, settings)
        choose(settings, run, pruned)
        stages.train_sparse(settings, run, kind)
        stages.evaluate_network(settings, run, f"SNIP per {kind}")
    return run
