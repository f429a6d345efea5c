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
choose_units = task(name="choose units", cache_policy=NO_CACHE)(stages.choose_units)
choose_connections = task(name="choose connections", cache_policy=NO_CACHE)(stages.choose_connections)
describe_row = task(name="describe row", cache_policy=NO_CACHE)(stages.describe_row)
tabulate = task(name="tabulate", cache_policy=NO_CACHE)(stages.tabulate)
log_network = task(name="log network", cache_policy=NO_CACHE)(stages.log_final_network)
compact = task(name="compact", cache_policy=NO_CACHE)(stages.compact_network)
check = task(name="check", cache_policy=NO_CACHE)(stages.check_solutions)
summarise = task(name="summarise", cache_policy=NO_CACHE)(stages.summarise)


@task(name="train sparse", task_run_name="SNIP per {kind}", cache_policy=NO_CACHE)
def train_sparse(settings: Settings, parent: Run, chosen: Run, kind: str) -> Run:
    """Train and evaluate what SNIP left per `kind`, in a run of its own, because two are at work at once; that run."""
    with tracking.open_run(parent, f"SNIP per {kind}, trained", {"stage": "sparse", "from.snip": chosen.run_id}) as run:
        handover.save_settings(run, settings)
        stages.train_sparse(settings, run, chosen)
        stages.evaluate_network(settings, run, f"SNIP per {kind}")
    return run
