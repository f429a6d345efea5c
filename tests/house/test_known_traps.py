"""Versions that install but do not work; each guard would have caught one."""

import importlib

import highspy
import torch


def test_the_prefect_server_is_built_with_this_fastapi() -> None:
    server = importlib.import_module("prefect.server.api.server")
    [api] = [route.app for route in server.create_app(ephemeral=True).routes if getattr(route, "path", "") == "/api"]
    assert {"/health", "/flow_runs/", "/task_runs/"} <= set(api.openapi()["paths"])


def test_highs_is_not_the_version_that_returned_wrong_optima() -> None:
    solver = highspy.Highs()
    assert (solver.versionMajor(), solver.versionMinor(), solver.versionPatch()) != (1, 14, 0)


def test_torchvision_finds_its_operators_in_this_torch() -> None:
    ops = importlib.import_module("torchvision.ops")
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0]])
    assert ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5).tolist() == [0]
