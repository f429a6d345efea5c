"""The settings: one frozen object behind the command line, the logged parameters and the flows' parameters."""

import difflib
import json
import math
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Part = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
# training.RULES, spelled out because importing torch takes seconds and help needs none of it.
Control = Literal[
    "random", "critical", "l1_norm", "l2_norm", "mean_activation", "dead", "taylor", "mean_taylor", "squared_taylor",
    "snip",
]  # fmt: skip
Ranking = Literal["program", Control]
CONTROLS: tuple[str, ...] = get_args(Control)


class Settings(BaseModel):
    """Everything a flow can be told; a field's description is its line of help.

    Raises pydantic's ValidationError; :func:`flows.entry_points.settings_of` turns it into one line.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    # the data
    dataset: str = Field(
        "digits", description="digits, mnist, fashion_mnist, kmnist, cifar10, cifar100, or a folder of images per class"
    )
    data_root: str = Field("", description="folder of the data sets; empty: $DATA_ROOT, else a folder in ~/.cache")
    image_size: CountOrNone = Field(0, description="height and width in pixels to resize to; 0: the data's own")
    channels: int = Field(0, description="1: grey, 3: colour, 0: the data's own")
    limit: CountOrNone = Field(0, description="train on this many images only, for quick trials; 0: on all")

    # the network
    model: str = Field(
        "lenet5",
        description=(
            "fc2, fc3, fc4, lenet5, vgg7, vgg16, vgg16_plain, vgg19, resnet20, resnet56 (vgg16@0.25: a quarter as "
            "wide), torchvision:name, package.module:factory, file.py:factory, or an MLflow model URI"
        ),
    )
    checkpoint: str = Field("", description="state dict (.pt) to start from; empty: seeded initial weights")
    new_head: bool = Field(
        False, description="where outputs and classes differ in number, draw a new output layer from the seed"
    )

    # fitting
    epochs: CountOrNone = Field(20, description="epochs of training; 0 keeps the checkpoint's weights")
    learning_rate: Positive = Field(0.001, description="step size of the optimiser")
    batch_size: Count = Field(64, description="images per step, and per step of evaluation")
    optimiser: Literal["adam", "sgd"] = Field("adam", description="adam or sgd")
    weight_decay: NotNegative = Field(0.0, description="weight decay of the optimiser")
    rate_schedule: Literal["constant", "cosine"] = Field(
        "constant", description="learning rate over the epochs: constant, or falling to 0 along a cosine"
    )
    augment: Literal["none", "flip_crop"] = Field(
        "none", description="what happens to training images: none, or flip_crop (mirrored, shifted by up to 4 pixels)"
    )
    precision: Literal["auto", "float32", "mixed"] = Field(
        "auto", description="arithmetic of training: float32, mixed (bfloat16 where that is safe), auto: mixed on cuda"
    )
    fit_by: Literal["network", "block"] = Field(
        "network", description="what learns from one loss: the whole network, or each block from a head of its own"
    )

    # scoring
    images_per_class: Count = Field(5, description="images of each class in one scoring set")
    scoring_sets: Count = Field(3, description="scoring sets; the scores are averaged over them")
    sets_seed: Annotated[int, Field(ge=-1, lt=2**32)] = Field(
        -1, description="seed of the scoring sets' draw alone; -1: as seed"
    )
    order: Literal["random", "least_confident"] = Field("random", description="how scoring images are drawn")
    loss_weight: Positive = Field(5.0, description="weight of the cross-entropy against the sparsity")
    radius: NotNegative = Field(0.0, description="half-width of the input box around each image, in pixel units")
    gate: Literal["published", "pattern", "linear", "exact"] = Field(
        "pattern", description="what a score does to an activation"
    )
    relax: bool = Field(True, description="relax the binary open variables to [0, 1]")
    integer_scores: bool = Field(False, description="scores 0 or 1 only")
    layer_weight: Literal["units", "kernel", "network", "total"] = Field(
        "units", description="what a layer's term is divided by"
    )
    allow_degenerate: bool = Field(False, description="allow gate=exact with relax=true, whose scores mean little")
    solver: str = Field("highs", description="a solver that linopy finds installed")
    solver_options: str = Field("{}", description="options handed to the solver, as a JSON object")
    time_limit: Positive = Field(600.0, description="seconds for one scoring set")
    gap: Positive = Field(1e-4, description="relative gap at which a solution counts as optimal")
    cuts: Literal["tangent", "lifted"] = Field("tangent", description="form of the loss's outer approximation")
    break_ties: bool = Field(True, description="within the gap, keep no score up that nothing asks for")
    workers: Count = Field(2, description="programs solved at the same time; never more than there are cores")
    explain: bool = Field(False, description="log which images and rows hold each score up")
    ranges: bool = Field(False, description="log each score's range over the near-optimal set")

    # scoring block by block
    blocks: str = Field(
        "whole",
        description="whole: one program; auto: a block before each convolution; or layers to cut before, by commas",
    )
    head_epochs: CountOrNone = Field(2, description="epochs in which the blocks' heads learn on the trained network")
    head_units: Literal["held", "scored"] = Field(
        "held", description="a head's own units: held at 1, or scored and their scores dropped"
    )
    by_class: bool = Field(False, description="one program for the images of each class, scores averaged over classes")
    task_runner: Literal["threads", "processes", "dask"] = Field(
        "threads", description="what solves programs at the same time: threads, processes, or Dask workers"
    )
    dask_address: str = Field("", description="scheduler of a running Dask cluster; empty: one for this flow alone")

    # pruning and retraining
    rule: Ranking = Field("program", description="what ranks the units: program, or a simple rule such as l1_norm")
    selection: Literal["threshold", "layer_mean", "share", "quantile", "budget"] = Field(
        "threshold",
        description="what goes by: threshold, layer_mean, share (of each layer), quantile (of all units), budget",
    )
    threshold: Share = Field(0.5, description="a unit with a score below this is removed")
    share: Part = Field(0.5, description="part of each layer (share) or of all units (quantile) that is removed")
    budget: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] = Field(
        0.5, description="part of the whole network's cost that may remain"
    )
    budget_on: Literal["parameters", "multiply_adds", "latency"] = Field(
        "parameters", description="parameters, multiply_adds, or latency (seconds, measured on this machine's CPU)"
    )
    floor: Count = Field(1, description="units that every layer keeps at least")
    round_to: Count = Field(1, description="kept widths are rounded up to a multiple of this")
    leave_alone: str = Field(
        "", description="layers that keep all units: names or patterns such as features.*, by commas"
    )
    schedule: Literal["one_shot", "iterative"] = Field(
        "one_shot", description="remove at once, or in steps and rank the pruned network again at each"
    )
    steps: Count = Field(16, description="removals of schedule=iterative and of gradual")
    exchange: Annotated[int, Field(ge=-1)] = Field(
        -1, description="masks tried by exchanging units after a removal; -1: 100 if iterative, else 0"
    )
    recalibrate: bool = Field(False, description="measure BatchNorm statistics anew after a removal")
    compare: str = Field("random,critical", description="rules to compare with at the same counts, by commas, or all")
    draws: Count = Field(5, description="random masks to compare with, at the same counts per layer")
    retrain_epochs: CountOrNone = Field(1, description="epochs of training after pruning")

    # compacting
    export: Literal["none", "torch", "onnx", "all"] = Field(
        "all", description="also log the compacted network for other runtimes: torch (.pt2), onnx, all of them, or none"
    )

    when: Literal["during_training", "at_initialisation"] = Field(
        "during_training", description="when gradual removes: between epochs, or before the first"
    )
    every: Count = Field(1, description="epochs before each removal of when=during_training")

    # the questions asked of many networks
    target: str = Field("fashion_mnist", description="transfer: the data set that the sub-network is trained on")
    rewind_epochs: CountOrNone = Field(1, description="transfer: epochs to the early checkpoint rewound to; 0: none")
    mask_run: str = Field("", description="transfer: run whose mask is carried over; empty: one is found on dataset")
    seeds: Count = Field(3, description="how often all is repeated, with seed, seed + 1, ...")
    models: str = Field("fc3,fc4,lenet5", description="reproduce: networks, by commas")
    datasets: str = Field("mnist,fashion_mnist", description="reproduce: data sets, by commas")
    thresholds: str = Field("0.1,0.2", description="reproduce: thresholds, by commas")
    over: Literal["loss_weight", "threshold", "radius", "gate", "images_per_class"] = Field(
        "threshold", description="sweep: the setting that varies"
    )
    values: str = Field("", description="sweep: its values, by commas; empty: a range that fits the setting")

    # the machine and the tracking store
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(0, description="seed of split, initial weights, draws, batches")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes cuda where there is one")
    threads: Count = Field(1, description="threads of torch and of each solver")
    tracking_uri: str = Field(
        "", description="MLflow store; empty: $MLFLOW_TRACKING_URI, else mlflow.db in the project"
    )
    cache: str = Field(
        "", description="folder of finished work, taken over where the same is asked for again; none: keep nothing"
    )
    experiment: str = Field("critical-neurons", description="MLflow experiment, where `mlflow run` has not chosen one")

    # continuing and testing
    run_id: str = Field("", description="MLflow run to continue from: a stage's own, or the one above it")
    suite: Literal["quick", "all"] = Field("quick", description="quick, or all: with slow and real-data tests")

    @field_validator("channels")
    @classmethod
    def _grey_or_colour(cls, value: int) -> int:
        if value not in (0, 1, 3):
            raise ValueError("must be 0, 1 or 3")
        return value

    @field_validator("dataset", "model", "solver", "experiment", "blocks")
    @classmethod
    def _not_empty(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("must not be empty")
        return value

    @field_validator("compare")
    @classmethod
    def _known_rules(cls, value: str) -> str:
        names = [name.strip() for name in value.split(",") if name.strip()]
        if names == ["all"]:
            return value
        for name in names:
            if name not in CONTROLS:
                close = difflib.get_close_matches(name, CONTROLS, n=3, cutoff=0.5)
                nearest = f" (nearest: {', '.join(close)})" if close else ""
                raise ValueError(f"must be all, or some of {', '.join(CONTROLS)}: there is no rule {name!r}{nearest}")
        return value

    @field_validator("models", "datasets")
    @classmethod
    def _each_once(cls, value: str) -> str:
        _require_each_once([name.strip() for name in value.split(",")])
        return value

    @field_validator("thresholds")
    @classmethod
    def _shares(cls, value: str) -> str:
        words = [word.strip() for word in value.split(",")]
        for word in words:
            try:
                number = float(word)
            except ValueError as error:
                raise ValueError(f"{word!r} is not a number: write such as 0.1,0.2") from error
            if not 0.0 <= number <= 1.0:
                near = "" if math.isnan(number) else f"; the nearest is {int(number > 1.0)}"
                raise ValueError(f"{word} is out of range: thresholds lie in [0, 1]{near}")
        _require_each_once([f"{float(word):g}" for word in words])
        return value

    @field_validator("solver_options")
    @classmethod
    def _json_object(cls, value: str) -> str:
        try:
            options = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f'must be a JSON object such as {{"presolve": "off"}} ({error})') from error
        if not isinstance(options, dict):
            raise ValueError('must be a JSON object such as {"presolve": "off"}')
        return value


def _require_each_once(items: list[str]) -> None:
    if not all(items):
        raise ValueError("an item of the list is empty: write the items with one comma between two")
    for item in items:
        if items.count(item) > 1:
            raise ValueError(f"{item!r} is in the list {items.count(item)} times: give it once")
