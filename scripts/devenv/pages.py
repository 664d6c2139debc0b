"""Scripts that write a page of docs/ run once more in the Python of the host, where the pack can be imported."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

from devenv.errors import one_sentence_errors
from devenv.host import prepare
from devenv.places import ROOT


def is_in_host(script: str) -> bool:
    """Whether this is the host's Python, with the pack importable; if not, the file ``script`` was run there."""
    if "I2AM_IN_HOST" not in os.environ:
        with one_sentence_errors():
            host = prepare()
            env = host.env() | {"COMFYUI_PATH": str(host.comfyui), "I2AM_IN_HOST": "1"}
            subprocess.run([str(host.python), script], env=env, check=True)
        return False
    sys.path[:0] = [str(ROOT / "tests")]
    importlib.import_module("conftest")  # makes the pack importable, as i2am_pack
    importlib.import_module("in_process_host").load()
    return True
