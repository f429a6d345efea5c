"""The oracle's independence: of the program's code it shares the lowered network, and nothing that reduces it."""

from __future__ import annotations

import ast
from pathlib import Path

ALLOWED = {"formulation": {"Network", "ScoreSettings"}, "formulation.network": None}


def test_the_unreduced_program_shares_the_network_and_the_settings_alone() -> None:
    imported = []
    for path in Path(__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "formulation":
                imported.append((node.module, {alias.name for alias in node.names}))
            assert not (isinstance(node, ast.Import) and any("formulation" in each.name for each in node.names))
    assert imported
    for module, names in imported:
        assert module in ALLOWED
        assert ALLOWED[module] is None or names <= ALLOWED[module]
