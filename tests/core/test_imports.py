"""Imports point one way, and importing the core costs next to nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMFYUI_MODULES = {"comfy", "comfy_api", "comfy_extras", "nodes", "folder_paths", "server", "execution"}


def imported(path):
    """Top-level names for absolute imports, dotted paths from the pack's root for relative ones."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            prefix = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            yield prefix
            yield from (f"{prefix}.{alias.name}" for alias in node.names)


def files(*folders):
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", files("i2am_core"), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_core_knows_no_comfyui(path):
    assert not {name.split(".")[0] for name in imported(path)} & COMFYUI_MODULES


@pytest.mark.parametrize("path", files("nodes/comfy"), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_what_touches_comfyui_knows_no_node(path):
    ours = {name for name in imported(path) if name.startswith("nodes.")}
    assert all(name.startswith("nodes.comfy") for name in ours)


def test_importing_the_core_is_cheap_and_pulls_in_no_matplotlib():
    code = (
        "import time, sys, torch; start = time.perf_counter(); import i2am_core; "
        "print(time.perf_counter() - start, 'matplotlib' in sys.modules)"
    )
    runs = [subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True) for _ in range(3)]
    assert all(run.stdout.split()[1] == "False" for run in runs)
    assert min(float(run.stdout.split()[0]) for run in runs) < 0.2


def test_intercepting_does_not_import_the_compiler():
    """It takes a second and 76 MB, and is not needed."""
    code = (
        "import sys, torch; from i2am_core.attention.intercept import Interceptor\n"
        "q = torch.randn(1, 2, 8, 16)\n"
        "with torch.inference_mode(), Interceptor() as interceptor:\n"
        "    torch.nn.functional.scaled_dot_product_attention(q, q, q)\n"
        "print(interceptor.intercepted, 'torch._dynamo' in sys.modules, 'sympy' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.split() == ["True", "False", "False"], run.stderr
