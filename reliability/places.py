"""Where the commands find the pack and its tools: as the tests do, see tests/conftest.py."""

import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def prepare_imports() -> None:
    """Make ``scripts`` and ``tests`` importable, and the pack as ``i2am_pack``; ComfyUI's ``nodes`` comes first."""
    folders = [str(ROOT / "scripts"), str(ROOT / "tests"), str(ROOT)]
    sys.path[:] = [p for p in sys.path if p not in ("", *folders)] + folders[::-1]
    if "i2am_pack" not in sys.modules:
        pack = types.ModuleType("i2am_pack")
        pack.__path__ = [str(ROOT)]
        sys.modules["i2am_pack"] = pack


prepare_imports()
