"""The stages as Prefect tasks, each with its recipe: what it depends on, and may read.

They hand over run addresses and numbers only, never tensors. Prefect's own cache is off: what is kept is kept by
`flows.execution.recording`, whose keys are the same in every process.
"""

from dataclasses import replace
from typing import Any, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.runtime import task_run

from flows import stages, tracking
from flows.adapters import ProgramSpec, solution_fault, tags_of
from flows.config import (
    BLOCKS,
    DATA,
    ENTRY_POINTS,
    FIT,
    FREE,
    GRADUAL,
    LEARNING,
    NETWORK,
    PRUNE,
    REFIT,
    SAMPLE,
    SELECT,
    SOLVE,
    Settings,
)
from flows.execution.final_models import publish_compacted, publish_masked
from flows.execution.keys import ANY, Recipe, identity_of
from flows.execution.recording import Stage, publish_settings, recorded, told
from flows.tracking import Run

R = TypeVar("R")
KNOWN = (*DATA, *NETWORK, "seed")
MACHINE = ("batch_size", "device", "threads")
PROGRAM = ("training", "formulation")
WEIGHTS = ("train", "train by block", "prune", "retrain", "gradual", "train sparse", "train arm")
STARTS = ("train", "train by block", "initial weights", "take over weights", "train arm")
HEADS = ("fit heads", "train by block")
ALL = tuple(name for name in Settings.model_fields if name not in FREE)


def _task(recipe: Recipe, stage: Stage, run_name: str | None = None) -> Task[..., None]:
    return _telling(recipe, stage, type(None), run_name)


def _telling(recipe: Recipe, stage: Stage, kind: type[R], run_name: str | None = None) -> Task[..., R]:
    """A task that says something of that kind to its caller."""
    name, recipe = run_name or recipe.task, replace(recipe, returns=kind is not type(None))
    return task(name=recipe.task.partition(" {")[0], task_run_name=name, cache_policy=NO_CACHE)(recorded(recipe, stage))


train = _task(Recipe("train", (*KNOWN, *FIT, *MACHINE), initial=True), stages.train_network)
train_by_block = _task(
    Recipe("train by block", (*KNOWN, *FIT, *MACHINE, "blocks"), initial=True), stages.train_by_block
)
fit_heads = _task(
    Recipe("fit heads", (*KNOWN, *LEARNING, *MACHINE, "blocks", "head_epochs"), {"trained": STARTS}),
    stages.fit_block_heads,
)
sample = _task(Recipe("sample", (*KNOWN, *SAMPLE, *MACHINE), {"trained": STARTS}, PROGRAM), stages.draw_scoring_sets)
lay_out = _telling(
    Recipe(
        "lay out programs",
        (*NETWORK, "seed", *MACHINE, "blocks", "by_class"),
        {"run": ("sample", "sample kind"), "trained": STARTS},
        PROGRAM,
    ),
    stages.lay_out,
    list,
)
average = _task(
    Recipe("average", ("threshold",), {"solved": ("score set",)}, PROGRAM, data=False, network=False),
    stages.average_scores,
)
prune = _task(
    Recipe(
        "prune",
        (*KNOWN, *PRUNE, *SOLVE, *BLOCKS, *MACHINE, "scoring_sets"),
        {"scored": ("sample", "average"), "trained": STARTS, "headed": HEADS},
        PROGRAM,
    ),
    stages.prune_network,
)
compare = _task(
    Recipe(
        "compare masks",
        (*KNOWN, *MACHINE, "compare", "draws", "recalibrate", *REFIT),
        {"run": ("prune",), "scored": ("average",), "trained": STARTS},
    ),
    stages.compare_masks,
)
EVALUATE = Recipe("evaluate", (*KNOWN, *MACHINE), {"run": WEIGHTS})
evaluate = _task(EVALUATE, stages.evaluate_network, "evaluate {name}")
retrain = _task(
    Recipe("retrain", (*KNOWN, *FIT, *MACHINE, "retrain_epochs"), {"pruned": ("prune",)}), stages.retrain_network
)
gradual = _task(
    Recipe("gradual", (*KNOWN, *FIT, *SAMPLE, *SOLVE, *GRADUAL, *PRUNE, *MACHINE), {}, PROGRAM, initial=True),
    stages.train_gradually,
)
compact = _task(Recipe("compact", (*KNOWN, *MACHINE, "export"), {"source": WEIGHTS}), stages.compact_network)
summarise = _task(
    Recipe("summarise", ENTRY_POINTS["main"].own, {"stages": (ANY,)}, PROGRAM, once=True), stages.summarise
)
choose_units = _task(
    Recipe("choose units", (*KNOWN, *SAMPLE, *MACHINE), {"pruned": ("prune",)}, initial=True), stages.choose_units
)
choose_connections = _task(
    Recipe("choose connections", (*KNOWN, *SAMPLE, *MACHINE), {"pruned": ("prune",)}, initial=True),
    stages.choose_connections,
)
describe_row = _task(
    Recipe(
        "describe row",
        ALL,
        dict.fromkeys(("trained", "scored", "pruned", "retrained", "connections", "sparse"), (ANY,)),
        once=True,
    ),
    stages.describe_row,
)
tabulate = _task(
    Recipe("tabulate", ALL, {"rows": (ANY,)}, data=False, network=False, once=True),
    stages.tabulate,
)
initial = _task(Recipe("initial weights", KNOWN, initial=True), stages.leave_initial_weights)
take_over = _task(Recipe("take over weights", KNOWN, {"source": STARTS}), stages.take_over_weights)
carry = _task(Recipe("carry masks", (), {"found": (ANY,)}, data=False, network=False), stages.carry_masks)
choose = _task(
    Recipe("choose masks", (*KNOWN, *MACHINE), {"found": (ANY,), "ranked": STARTS, "scored": ("average",)}),
    stages.choose_masks,
    "choose masks by {rule}",
)
train_arm = _task(
    Recipe("train arm", (*KNOWN, *FIT, *MACHINE), {"run": ("carry masks", "choose masks"), "start": STARTS}),
    stages.train_arm,
)
summarise_seed = _task(
    Recipe("summarise seed", ALL, {"arms": (ANY,)}, data=False, network=False, once=True), stages.summarise_seed
)
summarise_transfer = _task(
    Recipe("summarise transfer", ALL, {"seeds": (ANY,), "weights": (ANY,)}, data=False, network=False, once=True),
    stages.summarise_transfer,
)
curve = _task(
    Recipe("curve", (*KNOWN, *MACHINE, *SELECT, "recalibrate", *REFIT), {"scored": ("average",), "trained": STARTS}),
    stages.measure_curve,
)
repeat_curve = _task(
    Recipe("repeat curve", (), {"measured": (ANY,)}, data=False, network=False, once=True), stages.repeat_curve
)
summarise_sweep = _task(
    Recipe("summarise sweep", ALL, {"trained": (ANY,), "points": (ANY,)}, once=True), stages.summarise_sweep
)
draw_kind = _telling(
    Recipe("sample kind", (*KNOWN, *SAMPLE, *MACHINE), {"trained": STARTS}),
    stages.draw_kind,
    list,
    "sample {kind}",
)
measure_set = _telling(
    Recipe(
        "measure set {number}",
        (*KNOWN, *MACHINE, *PRUNE),
        {"trained": STARTS, "solved": ("score set",)},
        PROGRAM,
    ),
    stages.measure_set,
    dict,
)
compare_sets = _task(
    Recipe("compare sets", ALL, {"groups": ("score set",)}, PROGRAM, data=False, network=False, once=True),
    stages.compare_sets,
)
summarise_robustness = _task(
    Recipe("summarise robustness", ALL, {"trained": (ANY,), "kinds": (ANY,)}, once=True), stages.summarise_robustness
)
# Recorded nowhere: MLflow keeps a model once, and a check is asked for to be done again.
log_masked = task(name="log network", cache_policy=NO_CACHE)(publish_masked)
log_compacted = task(name="log compacted network", cache_policy=NO_CACHE)(publish_compacted)
check = task(name="check", cache_policy=NO_CACHE)(told(stages.check_solutions))

# Whoever solves a program needs no data set: all of it is in the run that has laid it out.
_solve = recorded(
    Recipe(
        "score set",
        ("dataset", *NETWORK, "seed", *SOLVE, *BLOCKS, *MACHINE, "explain", "ranges"),
        {"parent": ("sample", "sample kind", "lay out programs"), "trained": STARTS, "headed": HEADS},
        PROGRAM,
        data=False,
        network=False,
    ),
    stages.solve_program,
    solution_fault,
)


def _scoring_name() -> str:
    return f"score {ProgramSpec(**task_run.parameters['program'])}"


@task(name="score set", task_run_name=_scoring_name, cache_policy=NO_CACHE)
def score_set(settings: Settings, parent: Run, trained: Run, headed: Run | None, program: dict[str, Any]) -> Run:
    """Solve one of the programs that a run has laid out, in a run of its own; that run."""
    which = ProgramSpec(**program)
    tags = {**tags_of(which), "from.train": trained.run_id}
    identity = identity_of(f"scoring {which}", settings, {"train": trained})
    with tracking.open_run(parent, f"scoring {which}", tags, identity) as run:
        _solve(settings, run, parent, trained, headed, program)
    return run


_fit_sparse = recorded(
    Recipe(
        "train sparse",
        (*KNOWN, *FIT, *MACHINE),
        {"chosen": ("choose units", "choose connections")},
        initial=True,
    ),
    stages.train_sparse_network,
)
_evaluate_sparse = recorded(EVALUATE, stages.evaluate_network)


@task(name="train sparse", task_run_name="SNIP per {kind}", cache_policy=NO_CACHE)
def train_sparse(settings: Settings, parent: Run, chosen: Run, kind: str) -> Run:
    """Train and evaluate what SNIP left per `kind`, in a run of its own; that run."""
    title = f"SNIP per {kind}, trained"
    identity = identity_of(title, settings, {"chosen": chosen})
    tags = {"stage": "sparse", "from.snip": chosen.run_id}
    with tracking.open_run(parent, title, tags, identity) as run:
        publish_settings(settings, run)
        _fit_sparse(settings, run, chosen)
        _evaluate_sparse(settings, run, f"SNIP per {kind}")
    return run
