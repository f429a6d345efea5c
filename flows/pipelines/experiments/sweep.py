"""The sweep experiment: one trained network, scored and pruned with many values of one setting."""

from prefect import flow

from flows.config import Settings, point_title, points_of, subject_of
from flows.execution import tasks
from flows.pipelines import stage_runs
from flows.tracking import Run

AFTER_SCORING = ("threshold",)  # settings that the scores do not depend on


@flow(name="sweep")
def sweep_flow(settings: Settings) -> str:
    """Train once, then score and prune once per value of `settings.over`; the id of the run on top."""
    title = f"sweep over {settings.over}: {subject_of(settings)}"
    with stage_runs.flow_run("sweep", settings, title) as top:
        trained = stage_runs.train_stage(settings, top)
        shared = stage_runs.score_stage(settings, top, trained) if settings.over in AFTER_SCORING else None
        runs: list[Run] = []
        for point in points_of(settings):
            sources = {"train": trained} | ({"score": shared} if shared else {})
            with stage_runs.stage_run("point", point, top, sources, title=point_title(point)) as run:
                scored = shared or stage_runs.score_stage(point, run, trained)
                if shared and runs:
                    tasks.repeat_curve(point, run, runs[0])
                else:
                    tasks.curve(point, run, scored, trained)
                tasks.prune(point, run, scored, trained, stage_runs.heads_of(scored))
                tasks.evaluate(point, run, "pruned")
            runs.append(run)
        tasks.summarise_sweep(settings, top, trained, runs)
    return top.run_id
