"""What ships: small, complete, and described for ComfyUI's registry."""

import io
import json
import shutil
import subprocess
import venv
import zipfile
from pathlib import Path

import torch
from registry import shipped

ROOT = Path(__file__).resolve().parents[2]


def test_the_zip_is_small_and_holds_what_is_needed():
    names = shipped()
    for needed in ("__init__.py", "LICENSE", "demo/weights.safetensors", "demo/held_out.png", "requirements.txt"):
        assert needed in names
    needless = (".", "tests/", "scripts/", "benchmarks/", "docs/images/", "demo/checkpoints/", "demo/train", "CONTRIB")
    assert not [name for name in names if name.startswith(needless)]
    assert [name for name in names if name.startswith("docs/")] == ["docs/mechanisms.md"]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.write(ROOT / name, name)
    assert packed.tell() < 10 * 2**20


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


def test_weights_are_small_enough():
    assert (ROOT / "demo/weights.safetensors").stat().st_size <= 8 * 2**20


def test_python_files_are_ascii():
    """Some of the field's checkers read sources as cp1252."""
    for name in shipped():
        if name.endswith(".py"):
            assert (ROOT / name).read_bytes().isascii(), name


def test_pip_installs_a_core_that_can_be_imported(tmp_path):
    """In an environment of its own, beside nothing but what it names: here torch and numpy are lent to it."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    source = tmp_path / "source"  # pip leaves its build beside what it installs
    for name in shipped():
        if name.startswith("i2am_core/") or name in ("pyproject.toml", "README.md", "LICENSE"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", source], check=True)
    lent = Path(torch.__file__).parents[1]
    code = (
        "import importlib.metadata as about, pathlib, sys; from i2am_core import MapKind, attribute\n"
        "import i2am_core; print(pathlib.Path(i2am_core.__file__).with_name('py.typed').is_file())\n"
        "print(*sorted(about.requires('i2am')), sep='|')"
    )
    run = subprocess.run(
        [python, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(lent)}, capture_output=True, text=True, check=True
    )
    typed, needs = run.stdout.splitlines()
    assert typed == "True"
    assert {"torch", "numpy"} == {need for need in needs.split("|") if "extra" not in need}
    assert 'safetensors; extra == "files"' in needs and 'matplotlib; extra == "sheets"' in needs
