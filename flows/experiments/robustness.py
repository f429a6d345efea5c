"""How far scores depend on the images that they are computed from."""

from prefect import flow

from flows import chain, tasks
from flows.mapping import map_tasks
from flows.settings import Settings
from flows.stages.robustness import BALANCED, KINDS
from flows.tracking import Run


@flow(name="robustness")
def robustness(settings: Settings) -> str:
    """Train once, then score and prune by many scoring sets of each kind, each alone; the id of the run on top."""
    title = f"robustness: {settings.model} on {settings.dataset}"
    with chain.flow_run("robustness", settings, title) as top:
        trained = chain.train_stage(settings, top)
        kinds = [_scored(settings, top, trained, kind) for kind in KINDS]
        tasks.summarise_robustness(settings, top, trained, kinds)
    return top.run_id


def _scored(settings: Settings, top: Run, trained: Run, kind: str) -> Run:
    # Only the balanced sets are those that the settings ask a score stage for.
    stage = "score" if kind == BALANCED else f"score {kind}"
    with chain.stage_run(stage, settings, top, {"train": trained}, title=kind.replace("_", " ")) as run:
        groups = tasks.draw_kind(settings, run, trained, kind)
        numbers = [number for group in groups for number in group]
        calls = [(settings, run, trained, number) for number in numbers]
        names = [f"{kind}, set {number}" for number in numbers]
        solved = dict(zip(numbers, map_tasks(settings, tasks.score_set, calls, names=names), strict=True))
        tasks.average(settings, run, list(solved.values()))
        parts = [[solved[number] for number in group] for group in groups]
        # One after the other: measuring calls networks, which no thread may do while another one traces its own.
        found = [tasks.measure_set(settings, run, trained, part, place) for place, part in enumerate(parts, start=1)]
        tasks.compare_sets(settings, run, parts, found)
    return run
