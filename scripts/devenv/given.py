"""A ComfyUI of the user's own, named in COMFYUI_PATH: checked, and never modified."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

from devenv.errors import HostError
from devenv.places import COMFYUI
from devenv.processes import last_line

OLDEST_COMFYUI = (0, 3, 60)

# What a ComfyUI must be able to import, and the packages whose name differs from that.
MODULES = (
    *("torch", "torchvision", "torchaudio", "numpy", "einops", "transformers", "safetensors", "aiohttp", "yaml"),
    *("PIL", "scipy", "psutil", "alembic", "sqlalchemy", "av", "matplotlib"),
)
TEST_MODULES = ("pytest", "pytest_timeout", "hypothesis", "ruff", "mypy", "playwright", "pathspec")
EVALUATION_MODULES = ("ray", "pyarrow", "torchmetrics", "tqdm")
PACKAGES = {"yaml": "pyyaml", "PIL": "pillow", "pytest_timeout": "pytest-timeout"}


def given_comfyui() -> Path | None:
    """The folder that COMFYUI_PATH names, unless it is our own: .host may be a link, and tests hand it on."""
    given = os.environ.get("COMFYUI_PATH")
    folder = Path(given).expanduser().resolve() if given else COMFYUI.resolve()
    return None if folder == COMFYUI.resolve() else folder


def check_given(comfyui: Path, tests: bool, evaluation: bool) -> Path:
    """The Python of this ComfyUI. What is missing is said instead of changed."""
    check_version(comfyui)
    python = given_python(comfyui)
    check_modules(python, MODULES, "this ComfyUI and this pack")
    if tests:
        check_modules(python, TEST_MODULES, "the tests")
    if evaluation:
        check_modules(python, EVALUATION_MODULES, "the evaluation")
    return python


def check_version(comfyui: Path) -> None:
    """Raises HostError where the folder is no ComfyUI, or one that is too old."""
    for name in ("main.py", "comfyui_version.py"):
        if not (comfyui / name).is_file():
            raise HostError(f"COMFYUI_PATH is {comfyui}, which has no {name}: give the folder of a ComfyUI.")
    match = re.search(r"__version__\s*=\s*[\"'](\d+)\.(\d+)\.(\d+)", (comfyui / "comfyui_version.py").read_text())
    if not match or tuple(map(int, match.groups())) < OLDEST_COMFYUI:
        version = ".".join(match.groups()) if match else "unknown"
        raise HostError(f"The ComfyUI in {comfyui} has version {version}, expected 0.3.60 or newer: update it.")


def given_python(comfyui: Path) -> Path:
    """The one that COMFYUI_PYTHON names, else that of this ComfyUI's environment, else python3 on PATH."""
    named = os.environ.get("COMFYUI_PYTHON")
    for place in (".venv/bin/python", "venv/bin/python", "../python_embeded/python.exe"):
        if not named and (comfyui / place).exists():
            return comfyui / place
    name = named or "python3"
    path = shutil.which(name)
    if not path:
        raise HostError(f"No Python for the ComfyUI in {comfyui}: {name!r} cannot be run; set COMFYUI_PYTHON.")
    return Path(path)


def check_modules(python: Path, modules: tuple[str, ...], user: str) -> None:
    """Import them for real: a package that is there but does not load is as good as missing."""
    probe = """if True:
        import importlib, json, sys
        failed = {}
        for name in sys.argv[1:]:
            try:
                importlib.import_module(name)
            except BaseException as error:
                failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        print(json.dumps(failed))
    """
    command = [str(python), "-c", probe, *modules]
    env = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    answer = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env)
    if answer.returncode:
        raise HostError(f"{python} does not run as a Python ({last_line(answer.stderr)}): set COMFYUI_PYTHON.")
    failed: dict[str, str] = json.loads(answer.stdout.splitlines()[-1])
    missing = [PACKAGES.get(name, name) for name in failed if failed[name].startswith("ModuleNotFoundError")]
    if missing:
        raise HostError(
            f"{python} lacks what {user} need: {', '.join(missing)}; install with "
            f"{python} -m pip install {' '.join(missing)} (or name another Python in COMFYUI_PYTHON)."
        )
    if failed:
        name, error = failed.popitem()
        raise HostError(f"{python} cannot import {name}, which {user} need ({error}): install it again.")
