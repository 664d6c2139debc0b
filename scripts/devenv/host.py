"""The host: a ComfyUI that can be started, and what the tests need beside it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from devenv import node
from devenv.browser import find_chromium
from devenv.given import check_given, given_comfyui
from devenv.own import check_python, make_newest_frontend, make_own
from devenv.packages import install, make_environment, make_uv
from devenv.places import BYTECODE, COMFYUI, NEWEST_FRONTEND, NPM, PLACEHOLDERS, PYTHON, TOOLS
from devenv.stages import lock


@dataclass(frozen=True)
class Host:
    """A ComfyUI that can be started, and, if it was prepared for the tests, the tools beside it."""

    python: Path
    comfyui: Path
    own: bool  # made by us; otherwise the user's, and never modified
    chromium: Path | None = None
    newest_frontend: Path = NEWEST_FRONTEND
    node: Path = node.PROGRAM
    npm_programs: Path = NPM / "node_modules" / ".bin"
    tools: Path = TOOLS / "bin"  # comfy, comfy-test

    def env(self) -> dict[str, str]:
        """The environment for a process of this host: placeholders only for a host that we made.

        What Python compiles is written under .host/, and read by each later process: uv compiles nothing, and the
        modules of ComfyUI take a process 4 s otherwise. Nothing is written beside them, so that a ComfyUI that was
        given stays as it is.
        """
        env = os.environ | {"PYTHONPYCACHEPREFIX": str(BYTECODE)}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        if self.own:
            known = env.get("PYTHONPATH")
            env["PYTHONPATH"] = os.pathsep.join([str(PLACEHOLDERS), known] if known else [str(PLACEHOLDERS)])
        return env


def prepare(tests: bool = False, evaluation: bool = False) -> Host:
    """Make or check everything that is needed, and say where it is. Raises HostError. The tests need what both need.

    When all is ready this takes milliseconds, and nothing is run or written.
    """
    given = given_comfyui()
    python = check_given(given, tests, tests or evaluation) if given else PYTHON
    if tests or not given:
        check_python()
    if given and not tests:
        return Host(python, given, own=False)
    with lock():
        make_uv()
        if not given:
            make_own(tests, tests or evaluation)
        chromium = prepare_tests(python) if tests else None
    return Host(python, given or COMFYUI, own=not given, chromium=chromium)


def prepare_tests(python: Path) -> Path:
    """Make what the tests need of their own beside a ComfyUI, and return the Chromium."""
    make_newest_frontend()
    node.make_node()
    node.make_npm_packages()
    make_environment("environment of the tools", TOOLS)
    install(TOOLS, "tools")
    return find_chromium(python)
