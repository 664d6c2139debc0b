"""The real server and a real browser, once for all tests of this folder. What is missing is a failure."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from comfy_page import FLAGS, ComfyPage

from comfy_server import ComfyServer
from devenv import prepare
from devenv.browser import find_firefox

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    with ComfyServer(prepare(tests=True), tmp_path_factory.mktemp("web")) as running:
        yield running


@pytest.fixture(scope="session")
def servers(server: ComfyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], ComfyServer]]:
    """A server with the host's own frontend ('pinned'), and one with the newest, started when it is asked for."""
    with contextlib.ExitStack() as stack:
        started = {"pinned": server}

        def get(frontend: str) -> ComfyServer:
            if frontend not in started:
                extra = [f"--front-end-root={server.host.newest_frontend}"]
                running = ComfyServer(server.host, tmp_path_factory.mktemp(frontend), extra)
                started[frontend] = stack.enter_context(running)
            return started[frontend]

        yield get


@pytest.fixture(scope="session")
def object_info(server: ComfyServer) -> dict[str, Any]:
    return server.object_info()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    given = os.environ.get("I2AM_CHROMIUM", "")
    if not shutil.which(given):
        pytest.fail(f"I2AM_CHROMIUM is {given!r}, which is no program: run scripts/test, which finds a Chromium.")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=given, headless=True, args=list(FLAGS))
        yield running
        assert not running.contexts, "a page that stays open draws itself beside all tests that follow"
        running.close()


@pytest.fixture(scope="session")
def firefox() -> Path:
    return find_firefox()


# Each frontend and each renderer once; in the other two pairs, tests of what the page around a viewer makes of it.
PAIRS, OTHER_PAIRS = ("pinned-canvas", "newest-vue"), ("pinned-vue", "newest-canvas")
IN_EVERY_PAIR = "in_every_pair"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{IN_EVERY_PAIR}: in all pairs of frontend and renderer, and not in two alone")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out, and count, what is said in two pairs already. All that -k names is run."""
    if config.getoption("keyword"):
        return
    pairs = [item.callspec.params.get("comfy") if hasattr(item, "callspec") else None for item in items]
    out = [
        item
        for item, pair in zip(items, pairs, strict=True)
        if pair in OTHER_PAIRS and not item.get_closest_marker(IN_EVERY_PAIR)
    ]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]


@pytest.fixture(scope="module", params=[*PAIRS, *OTHER_PAIRS])
def comfy(request: pytest.FixtureRequest, servers: Callable[[str], ComfyServer], browser: Any) -> Iterator[ComfyPage]:
    """A fresh page in both frontends and both renderers, one after the other."""
    frontend, renderer = request.param.split("-")
    context = browser.new_context(viewport={"width": 1600, "height": 1000})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    comfy = ComfyPage(context.new_page(), servers(frontend), vue=renderer == "vue")
    comfy.name = request.param
    yield comfy
    context.close()


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """Where screenshots stay for a human to look at."""
    folder = ROOT / "out" / "test-artifacts"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
