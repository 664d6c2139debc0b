"""The real ComfyUI in this process, on the CPU. Without it these tests fail: they have nothing to test."""

import os
import sys
from pathlib import Path

import pytest


def _load_comfyui() -> None:
    folder = os.environ.get("COMFYUI_PATH", "")
    if not (Path(folder) / "comfyui_version.py").is_file():
        raise pytest.UsageError("COMFYUI_PATH must name a ComfyUI folder: run scripts/test, which prepares one.")
    sys.path.insert(0, folder)
    sys.path.append(str(Path(__file__).parent))  # for the helpers beside this file
    import comfy.options

    comfy.options.args_parsing = False
    from comfy.cli_args import args

    args.cpu = True
    args.disable_all_custom_nodes = True


_load_comfyui()
