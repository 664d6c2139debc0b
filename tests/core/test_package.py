"""What ships: small, complete, and described for ComfyUI's registry."""

import io
import json
import subprocess
import zipfile
from pathlib import Path

import pathspec

ROOT = Path(__file__).resolve().parents[2]


def shipped():
    """Files that git tracks, less what .comfyignore leaves out: what the registry zips."""
    ignored = pathspec.PathSpec.from_lines("gitignore", (ROOT / ".comfyignore").read_text().splitlines())
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [name for name in tracked.splitlines() if not ignored.match_file(name)]


def test_the_zip_is_small_and_holds_what_is_needed():
    names = shipped()
    for needed in ("__init__.py", "LICENSE", "demo/weights.safetensors", "demo/held_out.png", "requirements.txt"):
        assert needed in names
    assert not [name for name in names if name.startswith(("tests/", "scripts/", ".ci/", "docs/", "demo/checkpoints/"))]
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
