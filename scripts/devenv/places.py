"""Where things lie, in the repository and under .host/."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPTS = ROOT / "scripts"
HOST = (ROOT / ".host").resolve()  # may be a link, to share it between checkouts
LOGS = HOST / "logs"

VENV = HOST / "venv"
PYTHON = VENV / "bin" / "python"
COMFYUI = HOST / "ComfyUI"
PLACEHOLDERS = HOST / "placeholders"
NEWEST_FRONTEND = HOST / "frontend"  # the host serves it in place of its own with --front-end-root

UV = HOST / "uv"  # an environment for uv alone
TOOLS = HOST / "tools"  # one for the tools of ComfyUI's registry, whose needs are not those of ComfyUI
NODE = HOST / "node"
NPM = HOST / "npm"
BYTECODE = HOST / "bytecode"  # of all modules that Python compiles, ours and ComfyUI's
BROWSER = HOST / "browser"  # names the Chromium that Playwright downloaded
TYPING = ROOT / ".mypy_cache" / "typing"  # the pack under the name by which mypy knows it


def requirements(name: str) -> Path:
    """The file with the pinned packages of one stage."""
    return SCRIPTS / f"requirements-{name}.txt"
