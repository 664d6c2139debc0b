"""Puts the pack and the host where tests can import them, without one shadowing the other.

The pack is importable as ``i2am_pack`` (its relative imports work), ``i2am_core`` and ``demo`` as themselves.
ComfyUI has a ``nodes.py`` where we have ``nodes/``: the repository comes after ComfyUI on the path.
"""

import os
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

HELPERS = (ROOT / "tests", ROOT / "scripts")

# Triton's kernels run on the CPU, interpreted, which Triton reads once; scripts/gpu_check compiles them.
os.environ["TRITON_INTERPRET"] = "1"

sys.path[:] = [p for p in sys.path if p not in ("", str(ROOT))] + [str(ROOT), *map(str, HELPERS)]
pack = types.ModuleType("i2am_pack")
pack.__path__ = [str(ROOT)]
sys.modules["i2am_pack"] = pack


@pytest.fixture(autouse=True)
def _same_random_numbers():
    """Every run draws the same numbers (hypothesis draws its own)."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
