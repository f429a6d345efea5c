"""What one setting does: a network scored and pruned with many of its values."""

from prefect import flow

from flows import chain, tasks
from flows.points import points_of, title_of
from flows.settings import Settings
from flows.tracking import Run
from flows.words import subject_of

AFTER_SCORING = ("threshold",)  # settings that the scores do not depend on


@flow(name="sweep")
def sweep(settings: Settings) -> str:
    """Train once, then score and prune once per value of `settings.over`; the id of the run on top."""
    title = f"sweep over {settings.over}: {subject_of(settings)}"
    with chain.flow_run("sweep", settings, title) as top:
        trained = chain.train_stage(settings, top)
        shared = chain.score_stage(settings, top, trained) if settings.over in AFTER_SCORING else None
        runs: list[Run] = []
        for point in points_of(settings):
            sources = {"train": trained} | ({"score": shared} if shared else {})
            with chain.stage_run("point", point, top, sources, title=title_of(point)) as run:
                scored = shared or chain.score_stage(point, run, trained)
                if shared and runs:
                    tasks.repeat_curve(point, run, runs[0])
                else:
                    tasks.curve(point, run, scored, trained)
                tasks.prune(point, run, scored, trained, chain.heads_of(scored))
                tasks.evaluate(point, run, "pruned")
            runs.append(run)
        tasks.summarise_sweep(settings, top, trained, runs)
    return top.run_id
