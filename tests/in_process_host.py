"""The real ComfyUI in this process, on the CPU. Without it tests fail: they have nothing to test."""

import os
import sys
from pathlib import Path

import pytest


def load() -> None:
    folder = os.environ.get("COMFYUI_PATH", "")
    if not (Path(folder) / "comfyui_version.py").is_file():
        raise pytest.UsageError("COMFYUI_PATH must name a ComfyUI folder: run scripts/test, which prepares one.")
    if folder in sys.path:
        return
    sys.path.insert(0, folder)
    import utils.install_util  # noqa: F401 - first, as main.py does: nodes.py puts another utils before it on the path
    from comfy.cli_args import args

    args.cpu = True
