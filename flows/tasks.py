"""The stages as Prefect tasks. They hand over run addresses and numbers only, never tensors."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows import stages

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
log_network = task(name="log network", cache_policy=NO_CACHE)(stages.log_final_network)
compact = task(name="compact", cache_policy=NO_CACHE)(stages.compact_network)
check = task(name="check", cache_policy=NO_CACHE)(stages.check_solutions)
summarise = task(name="summarise", cache_policy=NO_CACHE)(stages.summarise)
curve = task(name="curve", cache_policy=NO_CACHE)(stages.measure_curve)
repeat_curve = task(name="repeat curve", cache_policy=NO_CACHE)(stages.repeat_curve)
summarise_sweep = task(name="summarise sweep", cache_policy=NO_CACHE)(stages.summarise_sweep)
draw_kind = task(name="sample kind", task_run_name="sample {kind}", cache_policy=NO_CACHE)(stages.draw_kind)
measure_set = task(name="measure set", task_run_name="measure set {number}", cache_policy=NO_CACHE)(stages.measure_set)
compare_sets = task(name="compare sets", cache_policy=NO_CACHE)(stages.compare_sets)
summarise_robustness = task(name="summarise robustness", cache_policy=NO_CACHE)(stages.summarise_robustness)
