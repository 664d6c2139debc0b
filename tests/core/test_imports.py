"""Imports point one way, and importing the core costs next to nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Modules and folders of the core from the ground up: each uses those before it, and a folder itself, too.
CORE = (
    *("printing", "errors", "half", "kinds", "tokens", "regions", "effect", "given", "attribution", "selection"),
    *("attention.", "recording.", "reading.", "findings.", "showing.", "files."),
)
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


def height(module):
    """The number of a module of the core, or of its folder, in ``CORE``."""
    return next(n for n, name in enumerate(CORE) if module == name or (name.endswith(".") and module.startswith(name)))


def used_in_the_core(path):
    """Modules of the core that one of its modules imports: ``attention.columns``. Any other name is from the face."""
    for name in imported(path):
        package, _, module = name.partition(".")
        if package == "i2am_core" and module:
            of_module = ROOT / "i2am_core" / module.replace(".", "/")
            if of_module.with_suffix(".py").exists():
                yield module
            elif not of_module.is_dir() and not of_module.parent.with_suffix(".py").exists():
                yield "the face"


MODULES = [path.relative_to(ROOT / "i2am_core").with_suffix("").as_posix() for path in files("i2am_core")]
IN_ORDER = [
    name.replace("/", ".") for name in MODULES if not name.endswith(("__init__", "__main__")) and name != "storage"
]


@pytest.mark.parametrize("module", IN_ORDER)
def test_imports_inside_the_core_point_one_way(module):
    own = height(module)
    for other in used_in_the_core(ROOT / "i2am_core" / f"{module.replace('.', '/')}.py"):
        assert other != "the face"
        assert height(other) < own or ("." in module and height(other) == own), other


@pytest.mark.parametrize("path", files("i2am_core/files"), ids=lambda path: path.name)
def test_files_know_only_what_is_in_them(path):
    """Not how it came about, nor how it is read."""
    used = set(used_in_the_core(path))
    assert used <= {name for name in CORE if not name.endswith(".")} | {
        name for name in used if name.startswith("files.")
    }


def test_importing_the_core_is_cheap_and_pulls_in_no_optional_package():
    code = (
        "import time, sys, torch; start = time.process_time(); import i2am_core; took = time.process_time() - start\n"
        "from i2am_core import *\n"
        "print(took, 'matplotlib' in sys.modules, 'safetensors' in sys.modules)"
    )
    for _ in range(5):  # on a busy machine, one may be late
        run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        took, *optional = run.stdout.split()
        assert optional == ["False", "False"]
        if float(took) < 0.2:
            return
    raise AssertionError(took)


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
