"""The real ComfyUI in this process, on the CPU: what the commands that look inside need, as the tests do."""

import os
import sys

from reliability import places  # noqa: F401  (before what it makes importable)

from devenv import prepare  # isort: skip


def load() -> None:
    """Make ComfyUI importable. Under the tests, which did so, there is nothing to do."""
    if "comfy" in sys.modules or os.environ.get("COMFYUI_PATH") in sys.path:
        return
    host = prepare(tests=True)
    os.environ["COMFYUI_PATH"] = str(host.comfyui)
    sys.path[:0] = host.env().get("PYTHONPATH", "").split(os.pathsep)
    import in_process_host

    in_process_host.load()


load()
