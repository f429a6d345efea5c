"""The battery's table: bad inputs of the command line, each with what lies in its folder and what the line must say.

`{place}` in words, environment and files stands for the fresh folder that the command is run in.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil, sqrt
from pathlib import Path

from tests.flows.bad_inputs import files, solver_words
from training.memory import memory_limit


@dataclass(frozen=True)
class BadInput:
    """One row: a flow with words after its name, the environment, what is laid into the folder, and what comes out.

    `says`: a part of the one line on stderr. `slow`: left to the whole suite. `alone`: also run as a process of
    its own.
    """

    name: str
    words: tuple[str, ...]
    says: str
    lay: Callable[[Path], object] = lambda place: None
    environment: Mapping[str, str] = field(default_factory=dict)
    code: int = 2
    slow: bool = False
    alone: bool = False


def rows() -> list[BadInput]:
    """All rows; a kind of its own is a function of its own."""
    return [
        *_words(), *_ranges(), *_programs(), *_pictures(), *_sizes(), *_checkpoints(), *_factories(), *_options(),
        *_lock_folders(),
    ]  # fmt: skip


def _main(**words: str) -> tuple[str, ...]:
    return _flow("main", **words)


def _flow(name: str, **words: str) -> tuple[str, ...]:
    return (name, *(word for key, value in words.items() for word in (f"--{key}", value)))


def _words() -> list[BadInput]:
    found = [
        BadInput("a flow that there is not", ("mian",), "unknown flow 'mian' (did you mean 'main'?)", alone=True),
        BadInput("an empty flow", ("",), "unknown flow ''"),
        BadInput("a flow that is no text", (os.fsdecode(b"ma\xffin"),), "unknown flow"),
        BadInput("a flow of two lines", ("ma\nin",), "unknown flow"),
        BadInput("a parameter that there is not", ("main", "--treshold", "1"), "unknown parameter 'treshold'"),
        BadInput("a parameter of two lines", ("main", "--thres\nhold", "1"), "unknown parameter"),
        BadInput("a parameter of another flow", ("train", "--gate", "exact"), "takes no parameter 'gate'"),
        BadInput("a stray word", ("main", "seed", "1"), "stray word 'seed'"),
        BadInput("a stray word of two lines", ("main", "se\ned"), "stray word"),
        BadInput("two hyphens alone", ("main", "--"), "unknown parameter ''"),
        BadInput("a value without a name", ("main", "--=3"), "unknown parameter ''"),
        BadInput("a name without a value", ("main", "--seed"), "seed has no value"),
        BadInput("a name twice", ("main", "--seed", "1", "--seed=2"), "seed is given twice"),
        BadInput("a suite that there is not", ("test", "--suite", "x"), "suite=x"),
        BadInput("a run for a flow that begins", ("main", "--run_id", "1"), "takes no parameter 'run_id'"),
        BadInput("many faults", _main(gap="x", threshold="2"), "threshold=2: must be"),
        BadInput("a value that is no text", _main(model=os.fsdecode(b"le\xffnet5")), "must be UTF-8"),
        BadInput("a data set that is no text", _main(dataset=os.fsdecode(b"folder:\xff")), "must be UTF-8"),
        BadInput("a model of two lines", _main(model="le\nnet5"), "is unknown"),
        BadInput("a model that colours the terminal", _main(model="\x1b[31mlenet5"), "is unknown"),
        BadInput("a value of a million letters", _main(gate="x" * 100_000), "gate="),
    ]
    for flow in ("score", "prune", "retrain", "compact", "check"):
        found.append(BadInput(f"{flow} without a run", (flow,), "run_id is missing"))
        found.append(BadInput(f"{flow} of no store", _flow(flow, run_id="0" * 32), "there is no tracking store"))
    return found


RANGES = {
    "threshold": ("1.5", "-0.1", "nan"), "loss_weight": ("0", "inf"), "radius": ("-1e-5",), "time_limit": ("0",),
    "images_per_class": ("0",), "scoring_sets": ("2.5",), "gap": ("nan",), "learning_rate": ("-1",),
    "epochs": ("many", "-1", "1e400"), "relax": ("perhaps",), "gate": ("patern",), "channels": ("2",),
    "solver_options": ("[1]", "{", '{"a": NaN', "[" * 100_000), "dataset": (" ",), "seed": ("-1", str(2**32)),
    "workers": ("0",), "device": ("tpu",), "share": ("1",), "budget": ("0",), "floor": ("0",), "round_to": ("0",),
    "steps": ("0",), "exchange": ("-2",), "rule": ("l3_norm",), "selection": ("all",), "budget_on": ("bytes",),
    "compare": ("random,l3_norm",),
    "refit": ("perhaps",), "refit_images": ("0",), "tolerance": ("-1", "101"), "image_size": ("-1", str(10**12)),
    "mean": ("a", "0.5,", "nan"), "std": ("0.5;0.5", "inf"),
}  # fmt: skip


def _ranges() -> list[BadInput]:
    return [
        BadInput(f"{name} out of range: {value[:12]}", _main(**{name: value}), f"{name}={value[:90]}")
        for name, values in RANGES.items()
        for value in values
    ]


def _programs() -> list[BadInput]:
    said: list[tuple[str, dict[str, str], str]] = [
        ("main", {"dataset": "mnits"}, "mnist"),
        ("main", {"dataset": "folder:no/such/folder"}, "image folder no/such/folder does not exist"),
        ("main", {"model": "lenet6"}, "lenet5"),
        ("main", {"model": "vgg16@0"}, "is out of range"),
        ("main", {"model": "torchvision:no_such"}, "no_such"),
        ("main", {"model": "models:/nothing/1"}, "models:/nothing/1"),
        ("main", {"model": "runs:/nothing/network"}, "no tracking store"),
        ("main", {"epochs": "0"}, "classified correctly"),
        ("main", {"solver": "gurobbi"}, "gurobbi"),
        ("main", {"gate": "pattern", "radius": "0.1"}, "radius"),
        ("main", {"gate": "exact"}, "degenerate"),
        ("main", {"images_per_class": "500"}, "images_per_class"),
        ("main", {"image_size": "8"}, "image_size"),
        ("main", {"leave_alone": "fc9"}, "'fc9' has no scores: did you mean 'fc"),
        ("main", {"leave_alone": "*"}, "leave_alone=* leaves no layer"),
        ("main", {"floor": "7"}, "floor=7 is above the width of layer 'conv1', which has 6"),
        ("main", {"rule": "dead", "selection": "threshold"}, "found rule=dead"),
        ("main", {"selection": "program", "rule": "l1_norm"}, "selection=program ranks nothing by rule=l1_norm"),
        ("main", {"selection": "program", "schedule": "iterative"}, "selection=program cannot be taken in steps"),
        ("robustness", {"selection": "program"}, "selection=program reads no scores"),
        ("main", {"selection": "budget", "budget": "0.0001"}, "the nearest that can is 0.00"),
        ("main", {"schedule": "iterative"}, "selection=tolerance cannot be taken in steps"),
        ("main", {"threshold": "0.2"}, "threshold=0.2 says nothing to selection=tolerance: give"),
        ("gradual", {"budget": "0.2"}, "give selection=budget too, or leave budget out"),
        ("main", {"schedule": "iterative", "selection": "share", "share": "0.99"}, "empty a layer"),
        ("main", {"schedule": "iterative", "selection": "share", "share": "0"}, "share=0 leaves nothing"),
        ("main", {"tracking_uri": "nothing://here", "cache": "none"}, "nothing://here"),
        ("train", {"fit_by": "block"}, "blocks=whole"),
        ("main", {"blocks": "conv9"}, "conv9"),
        ("gradual", {"epochs": "3"}, "need 16 epochs but there are 3"),
        ("gradual", {"selection": "layer_mean"}, "selection=layer_mean cannot be taken in steps"),
        ("gradual", {"rule": "critical"}, "rule=critical"),
        ("gradual", {"rule": "l1_norm", "images_per_class": "500"}, "images_per_class"),
        ("gradual", {"share": "0"}, "share=0 leaves nothing"),
        ("robustness", {"scoring_sets": "1"}, "scoring_sets=1"),
        ("sweep", {"over": "threshold", "values": "0.1,x"}, "values"),
        ("transfer", {"dataset": "digits", "target": "digits"}, "target=digits is dataset too"),
        ("transfer", {"dataset": "digits", "target": "digit"}, "dataset 'digit' is unknown"),
    ]
    return [
        BadInput(f"{flow} {' '.join(f'{key}={value}' for key, value in words.items())}", _flow(flow, **words), what)
        for flow, words, what in said
    ]


def _pictures() -> list[BadInput]:
    words = _main(dataset="folder:{place}/set", model="fc2")
    return [
        BadInput(f"among the images {name}", words, says, lay, alone=name == "a pipe")
        for name, (lay, says) in files.PICTURES.items()
    ]


def _sizes() -> list[BadInput]:
    # fc2 has 300 weights of 4 bytes per pixel; the few pictures themselves fit.
    too_large = str(ceil(sqrt(1.1 * memory_limit() / (300 * 4))))
    return [
        BadInput("digits of 60000 pixels", _main(image_size="60000"), "would take 32.3 TB of memory"),
        BadInput("digits of a number of pixels", _main(image_size=str(2**31 - 1)), "would take more than 1000 EB"),
        BadInput("a folder of 60000 pixels", _main(dataset="folder:{place}/set", image_size="60000"),
                 "would take", files.lay_pictures),
        BadInput("a network of more than all memory", _main(dataset="folder:{place}/set", image_size=too_large,
                 channels="1", model="fc2"), "classes would take", files.lay_few_pictures),
        BadInput("mnist that is truncated", _main(dataset="mnist", data_root="{place}"), "truncated",
                 files.lay_truncated_mnist),
        BadInput("mnist that is a pipe", _main(dataset="mnist", data_root="{place}"), "is a pipe",
                 files.lay_mnist_of_pipes),
        BadInput("cifar10 that is altered", _main(dataset="cifar10", data_root="{place}"), "truncated or altered",
                 files.lay_altered_cifar),
    ]  # fmt: skip


def _checkpoints() -> list[BadInput]:
    words = _main(checkpoint="{place}/given.pt", model="fc2", epochs="0")
    return [BadInput(f"a checkpoint {name}", words, says, lay) for name, (lay, says) in files.CHECKPOINTS.items()]


def _factories() -> list[BadInput]:
    return [
        BadInput(f"a factory that {name}", _main(model="{place}/own.py:net"), says,
                 lambda place, body=body: (place / "own.py").write_text(body),
                 slow=True, alone=name in ("leaves by os._exit(0)", "asks for input"))
        for name, (body, says) in files.FACTORIES.items()
    ] + [
        BadInput("a factory of no module", _main(model="no_such_module:net"), "no_such_module"),
        BadInput("a factory without a name", _main(model="own.py:"), "is not of the form"),
        BadInput("a factory of no file", _main(model="{place}/none.py:net"), "no file"),
        BadInput("a factory in a pipe", _main(model="{place}/own.py:net"), "no file",
                 lambda place: os.mkfifo(place / "own.py")),
    ]  # fmt: skip


def _options() -> list[BadInput]:
    return [
        BadInput(
            f"{solver} with {text[:60]}",
            _main(solver=solver, solver_options=text),
            says,
            alone=solver == "highs" and "log_file" in text,
        )
        for solver, text, says in solver_words.OPTIONS
    ]


def _lock_folders() -> list[BadInput]:
    kinds: dict[str, Callable[[Path], object]] = {
        "no folder": lambda place: place.write_text(""),
        "a link": lambda place: place.symlink_to(place.parent),
        "writable by others": lambda place: (place.mkdir(), place.chmod(0o777)),
    }

    def laid(lay: Callable[[Path], object]) -> Callable[[Path], object]:
        return lambda place: (
            (place / "temporary").mkdir(),
            lay(place / "temporary" / f"critical-neurons-{os.getuid()}"),
        )

    return [
        BadInput(f"a lock folder that is {says}", _main(), f"of the cores' locks is {says}", laid(lay),
                 {"TMPDIR": "{place}/temporary"}, alone=says == "a link")
        for says, lay in kinds.items()
    ]  # fmt: skip
