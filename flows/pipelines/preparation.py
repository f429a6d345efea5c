"""Everything that can be found wrong before a server starts and anything is written."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

import formulation
import training
from flows import tracking
from flows.adapters import (
    artifacts,
    blocks_of,
    by_block,
    dataset_of,
    device_of,
    exports_of,
    fit_settings_of,
    free_layers,
    needs_importance,
    network_of,
    plan_of,
    require_budget,
    require_locks,
    require_named,
    score_settings_of,
    scoring_sets_of,
    takes_fewer,
)
from flows.cache import cache_of
from flows.config import (
    EntryPoint,
    Settings,
    inherit,
    points_of,
    require_agreement,
    require_words,
    settings_of,
    with_preset,
)
from flows.errors import SettingsError
from flows.execution import keep_secrets_in, require_runner
from flows.pipelines.experiments import SNIP, cells_of, on_target, own_of, published_of, require_transfer, with_shape
from flows.redaction import is_secret, remember
from flows.stages.pruning import all_kept, schedule_of
from training import Dataset, Method

EXPERIMENTS = ("sweep", "robustness", "transfer")


def prepare_flow(point: EntryPoint, words: Mapping[str, object], *, all_given: bool = False) -> Settings:
    """The settings that a flow may start with; `all_given` as for :func:`flows.config.presets.with_preset`.

    Raises FlowError, TrainingError or FormulationError for whatever data, network, program, solver and machine have
    against them.
    """
    require_words(point, words)
    remember(str(words.get("tracking_uri") or ""))
    words = with_preset(point, words, all_given=all_given)
    settings = settings_of({**point.defaults, **words})
    uri = tracking.store_uri(settings.tracking_uri)
    if is_secret(uri):
        # Also where another program calls a flow: Prefect and MLflow log the errors that ours stem from.
        keep_secrets_in()
    tracking.probe_store(uri)
    require_agreement(point, settings)
    if point.after:
        settings = _continued(point, words, settings, uri)
    device_of(settings)
    if point.name == "transfer":
        settings = with_shape(settings)
    dataset = dataset_of(settings)
    asked = points_of(settings) if point.name == "sweep" else (settings,)
    if point.name in ("main", "train", "gradual", *EXPERIMENTS):
        network = network_of(settings, dataset)
        units = _units_of(network, dataset, asked)
        _check_fitting(settings, network, "epochs")
    if point.name in ("main", "train", "score", *EXPERIMENTS):
        _check_blocks(point, settings, dataset)
    if point.name in ("prune", "retrain", "compact"):
        network = network_of(settings.model_copy(update={"checkpoint": ""}), dataset)
        units = _units_of(network, dataset, asked)
    if point.name in ("main", "prune", "gradual", *EXPERIMENTS):
        training.consumers(network, dataset.train.images[:1], units)
        _check_selection(point, settings, network, dict(units), dataset)
    if point.name in ("main", "retrain"):
        _check_fitting(settings, network, "retrain_epochs")
    if point.name == "transfer":
        _check_scoring_images(on_target(settings), require_transfer(settings, uri))
    for each in asked:
        if point.name in ("main", "score", "gradual", *EXPERIMENTS):
            _check_scoring_images(each, dataset)
        if point.name in ("main", "score", *EXPERIMENTS) or (point.name == "gradual" and settings.rule == "program"):
            _try_solver(each)
        if point.name in ("main", *EXPERIMENTS) and settings.epochs == 0:
            # Without training the network that will be scored is here already.
            scoring_sets_of(each, network, dataset)
    if point.name == "main" and not training.is_built_in(settings.model):
        # An operation that another runtime lacks shows here, and not after the hours of training.
        for kind in sorted({*exports_of(settings), *(("torch",) if settings.register_as else ())}):
            artifacts.try_export(kind, network, dataset.test.images[:1])
    if point.name == "reproduce":
        _check_cells(settings)
    if "task_runner" in point.accepted:
        require_runner(settings, uri)
    # Last, because these two are made where they are missing.
    with cache_of(settings) as cache:
        cache.lock("folder")
    tracking.open_store(uri, settings.experiment)
    if settings.register_as:
        tracking.require_registry(uri, settings.register_as)
    return settings


def _continued(point: EntryPoint, words: Mapping[str, object], settings: Settings, uri: str) -> Settings:
    tracking.require_store(uri, f"run_id={settings.run_id}")
    tracking.reach_store(uri)
    earlier = tracking.find_stage(tracking.find_run(uri, settings.run_id), *point.continues)
    logged = artifacts.logged_settings(earlier)
    require_named(point, words, logged)
    continued = inherit(point, words, logged)
    if point.name == "prune" and needs_importance(continued):
        artifacts.logged_importance(earlier)
    return continued


def _units_of(network: nn.Module, dataset: Dataset, asked: Sequence[Settings]) -> Mapping[str, int]:
    """The scored layers' units; raises whatever one of the gates asked for has against the network."""
    example = dataset.train.images[:1]
    first, *_others = (formulation.outline(network, example, gate) for gate in sorted({each.gate for each in asked}))
    return first.units


def _check_selection(
    point: EntryPoint, settings: Settings, network: nn.Module, widths: dict[str, int], dataset: Dataset
) -> None:
    """Whatever selection, limits, budget and schedule have against the network, from its shapes alone."""
    require_agreement(point, settings)
    free_layers(settings, widths)
    example = dataset.train.images[:1]
    if settings.selection == "program":
        formulation.outline(network, example, "pattern")  # it needs a lowered network
    values = {layer: np.ones(units) for layer, units in widths.items()}
    if settings.selection == "budget":
        require_budget(settings, network, widths, example)
    if point.name != "gradual" and settings.schedule == "one_shot":
        return
    plan = plan_of(settings, widths, None)
    method = Method(lambda *_: values, plan.selector)
    # Asked for no step, a schedule only checks its shares.
    if point.name == "gradual":
        schedule_of(settings, network, method, plan, dataset, widths)
    else:
        training.iterative(network, method, plan.shares, example, masks=all_kept(widths))


def _check_blocks(point: EntryPoint, settings: Settings, dataset: Dataset) -> None:
    """Whatever is against cutting the network, and against the heads of its blocks."""
    if settings.fit_by == "block" and not by_block(settings):
        raise SettingsError("fit_by=block: the network is one block as long as blocks=whole; give blocks=auto, or cuts")
    if not by_block(settings):
        return
    # Where the weights come from a run, the checkpoint that training began with may be gone by now.
    start = settings.model_copy(update={"checkpoint": ""}) if point.after else settings
    network, example = network_of(start, dataset), dataset.train.images[:1]
    for block in blocks_of(settings, network, example)[:-1]:
        training.headed(block, training.make_head(block, len(dataset.classes), seed=settings.seed))
    if settings.head_epochs and point.name != "train":
        fit_settings_of(settings, settings.head_epochs)


def _check_cells(settings: Settings) -> None:
    """Whatever is against any of the networks and data sets of a table, and against both kinds of settings."""
    for cell in cells_of(settings.model_copy(update={"seeds": 1})):
        dataset = dataset_of(cell)
        network, example = network_of(cell, dataset), dataset.train.images[:1]
        training.consumers(network, example, formulation.outline(network, example, published_of(cell).gate).units)
        _check_fitting(cell, network, "epochs")
        for variant in (published_of(cell), own_of(cell), cell.model_copy(update=dict(SNIP))):
            _check_scoring_images(variant, dataset)
    for variant in (published_of(settings), own_of(settings)):
        _try_solver(variant)


def _check_fitting(settings: Settings, network: nn.Module, epochs: str) -> None:
    number = getattr(settings, epochs)
    fit_settings_of(settings, number)
    if number and not any(parameter.requires_grad for parameter in network.parameters()):
        raise SettingsError(
            f"{epochs}={number}: model={settings.model} has no trainable parameters; give {epochs}=0, or a network "
            f"with requires_grad"
        )


def _check_scoring_images(settings: Settings, dataset: Dataset) -> None:
    wanted = settings.scoring_sets * (1 if takes_fewer(settings) else settings.images_per_class)
    counts = torch.bincount(dataset.validation.labels, minlength=len(dataset.classes))
    smallest = int(counts.argmin())
    if counts[smallest] < wanted:
        found = f"class {dataset.classes[smallest]!r} of {settings.dataset} has {counts[smallest]} validation images"
        if takes_fewer(settings):
            raise SettingsError(f"{found}, and each of scoring_sets={settings.scoring_sets} needs one: lower it")
        raise SettingsError(
            f"{found}, but scoring_sets={settings.scoring_sets} times images_per_class={settings.images_per_class} "
            f"asks for {wanted}: lower one of them"
        )


def _try_solver(settings: Settings) -> None:
    """Solve a program of one unit: a missing solver, a missing licence and a wrong option show in it."""
    require_locks()
    tiny = nn.Sequential(nn.Flatten(), nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2))
    with torch.no_grad():
        for parameter in tiny.parameters():
            parameter.fill_(0.5)
    score_settings = replace(score_settings_of(settings), time_limit=60.0)
    formulation.score(tiny.eval(), torch.ones(1, 1, 1, 1), torch.zeros(1, dtype=torch.int64), score_settings)
