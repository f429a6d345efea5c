"""The robustness experiment: agreement of scores between scoring sets."""

from prefect import flow

from flows.adapters import program_of_run
from flows.config import Settings, subject_of
from flows.execution import tasks
from flows.pipelines import stage_runs
from flows.stages.experiments import BALANCED, KINDS
from flows.tracking import Run


@flow(name="robustness")
def robustness_flow(settings: Settings) -> str:
    """Train once, then score and prune by many scoring sets of each kind, each alone; the id of the run on top."""
    title = f"robustness: {subject_of(settings)}"
    with stage_runs.flow_run("robustness", settings, title) as top:
        trained = stage_runs.train_stage(settings, top)
        headed = stage_runs.heads_stage(settings, top, trained)
        kinds = [_scored(settings, top, trained, headed, kind) for kind in KINDS]
        tasks.summarise_robustness(settings, top, trained, kinds)
    return top.run_id


def _scored(settings: Settings, top: Run, trained: Run, headed: Run | None, kind: str) -> Run:
    # Only the balanced sets are those that the settings ask a score stage for.
    stage = "score" if kind == BALANCED else f"score {kind}"
    sources = {"train": trained} | ({"heads": headed} if headed else {})
    with stage_runs.stage_run(stage, settings, top, sources, title=kind.replace("_", " ")) as run:
        groups = tasks.draw_kind(settings, run, trained, kind)
        solved = stage_runs.solve_programs(settings, run, trained, headed, sum(map(len, groups)))
        tasks.average(settings, run, solved)
        numbers = [program_of_run(each) for each in solved]
        parts = [
            [each for each, which in zip(solved, numbers, strict=True) if which and which.number in group]
            for group in groups
        ]
        # One after the other: measuring calls networks, which no thread may do while another one traces its own.
        found = [tasks.measure_set(settings, run, trained, part, place) for place, part in enumerate(parts, start=1)]
        tasks.compare_sets(settings, run, parts, found)
    return run
