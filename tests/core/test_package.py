"""What ships: small, complete, and described for ComfyUI's registry."""

import io
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from registry import LARGEST, shipped

import i2am_core
from devenv.packages import uv_env
from devenv.places import UV, requirements

ROOT = Path(__file__).resolve().parents[2]


def test_the_zip_is_small_and_holds_what_is_needed():
    names = shipped()
    weights = ("demo/weights.safetensors", "demo/joint_weights.safetensors")
    for needed in ("__init__.py", "LICENSE", *weights, "demo/held_out.png", "requirements.txt"):
        assert needed in names
    needless = (
        ".",
        "tests/",
        "scripts/",
        "benchmarks/",
        "reliability/",
        "validation/",
        "docs/images/",
        "demo/checkpoints/",
        "demo/train",
        "demo/subject",
        "CONTRIB",
    )
    assert not [name for name in names if name.startswith(needless)]
    assert [name for name in names if name.startswith("docs/")] == [
        *("docs/findings.md", "docs/mechanisms.md", "docs/report.md")
    ]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(ROOT / name, name)
    assert packed.tell() < LARGEST


def test_help_and_languages_ship():
    """``docs/`` of the repository stays out, and must not take ``web/docs/`` with it."""
    names = shipped()
    nodes = json.loads((ROOT / "locales/en/nodeDefs.json").read_text())
    pages = {f"web/docs/{node}{rest}" for node in nodes for rest in (".md", "/zh.md")}
    assert len(nodes) > 10
    assert pages <= set(names)
    assert {"locales/en/nodeDefs.json", "locales/zh/nodeDefs.json", "locales/zh/main.json"} <= set(names)
    pictures = [path.relative_to(ROOT).as_posix() for path in (ROOT / "web/docs/images").iterdir()]
    assert pictures and set(pictures) <= set(names)


@pytest.mark.parametrize("name, mib", [("weights", 8), ("joint_weights", 3)])
def test_weights_are_small_enough(name, mib):
    assert (ROOT / f"demo/{name}.safetensors").stat().st_size <= mib * 2**20


def test_python_files_are_ascii():
    """Some of the field's checkers read sources as cp1252."""
    for name in shipped():
        if name.endswith(".py"):
            assert (ROOT / name).read_bytes().isascii(), name


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """A function that installs the core into an environment that has nothing else, and runs code in it."""
    folder = tmp_path_factory.mktemp("bare")
    checkout = folder / "checkout"  # an installer leaves its build beside what it installs
    for name in shipped():
        if name.startswith("i2am_core/") or name in ("pyproject.toml", "README.md", "LICENSE"):
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, checkout / name)
    python = folder / "env" / "bin" / "python"
    uv = [str(UV / "bin" / "uv")]
    subprocess.run([*uv, "venv", "-q", "--python", sys.executable, str(folder / "env")], env=uv_env(), check=True)
    # The versions of the host: they lie in uv's cache, from where no network is needed, unless it was cleaned.
    install = [*uv, "pip", "install", "-q", "--python", str(python), "-c", str(requirements("host"))]

    def run(extras, code):
        for offline in (["--offline"], []):
            done = subprocess.run(
                [*install, *offline, f"{checkout}{extras}"], env=uv_env(), capture_output=True, text=True
            )
            if done.returncode == 0:
                break
        assert done.returncode == 0, done.stderr
        done = subprocess.run([python, "-I", "-c", code], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


def test_the_core_can_be_installed_and_imported_beside_what_it_names(bare):
    code = """if True:
        import importlib, importlib.metadata, pathlib, pkgutil
        import i2am_core
        for name in i2am_core.__all__:
            getattr(i2am_core, name)
        lacks = set()
        for module in pkgutil.walk_packages(i2am_core.__path__, "i2am_core."):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:
                lacks.add(error.name)
        print(len(i2am_core.__all__), pathlib.Path(i2am_core.__file__).with_name("py.typed").is_file())
        print(*importlib.metadata.requires("i2am"), sep="|")
        print(*lacks)
    """
    about, needs, lacks = bare("", code)
    assert about == f"{len(i2am_core.__all__)} True"
    assert {"torch", "numpy"} == {need for need in needs.split("|") if "extra" not in need}
    assert 'safetensors; extra == "files"' in needs and 'matplotlib; extra == "sheets"' in needs
    assert set(lacks.split()) <= {"safetensors", "matplotlib", "triton"}


def test_all_of_the_core_can_be_imported_with_its_extras(bare):
    code = """if True:
        import importlib, pkgutil
        import i2am_core, matplotlib, safetensors
        modules = {module.name for module in pkgutil.walk_packages(i2am_core.__path__, "i2am_core.")}
        modules.remove("i2am_core.attention.fused_kernels")  # Triton comes with a torch for GPUs, or not at all
        print(len([importlib.import_module(name) for name in modules]))
    """
    (modules,) = bare("[all]", code)
    assert int(modules) > 20
