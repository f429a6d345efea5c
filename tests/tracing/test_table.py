"""The op table, and torch.fx behind it alone."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from torch import nn

from tracing import ops
from tracing.table import TABLE, of_layer

ROOT = Path(__file__).resolve().parents[2]
LAYERS = [target for target in TABLE if isinstance(target, type) and TABLE[target].op not in (ops.MOVE, ops.RESIZE)]


@pytest.mark.parametrize("kind", LAYERS, ids=lambda kind: kind.__name__)
def test_a_layer_class_takes_its_parameters_under_the_names_of_its_op(kind: type[nn.Module]) -> None:
    taken = set(inspect.signature(kind).parameters) - {"device", "dtype"}
    sizes = {"in_features", "out_features", "in_channels", "out_channels", "num_features", "p", "inplace"}
    other = {"num_parameters", "init", "min_value", "max_value"}  # of a weight, and names that are no longer used
    tracking = {"momentum", "affine", "track_running_stats", "args", "kwargs", "process_group"}
    of_weights = {"kernel_size", "padding_mode"} if "weight" in TABLE[kind].op.parameters else set()
    assert taken - sizes - other - tracking - of_weights <= set(TABLE[kind].op.parameters)


def test_a_subclass_of_a_layer_computes_what_the_layer_does() -> None:
    class Own(nn.Conv2d):
        pass

    assert of_layer(Own(1, 1, 1)) is TABLE[nn.Conv2d]


def test_only_tracing_imports_torch_fx() -> None:
    found = []
    for room in ("benchmarks", "flows", "formulation", "training"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom):
                    names = {f"{node.module}.{alias.name}" for alias in node.names}
                else:
                    names = {alias.name for alias in getattr(node, "names", []) if isinstance(alias, ast.alias)}
                if any(name == "torch.fx" or name.startswith("torch.fx.") for name in names):
                    found.append(path.relative_to(ROOT))
    assert found == []
