"""Real packs, in the folder that ``I2AM_PACKS`` names: each is a clone there, under the name of its repository.

``I2AM_PACKS=/folder scripts/test tests/nodes/packs`` runs what is about them. No code of theirs is in this repository.
"""

import asyncio
import functools
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import nodes as comfyui_nodes

FOLDER = os.environ.get("I2AM_PACKS")
TRIED = {  # repository -> whose it is on GitHub
    "ComfyUI-Advanced-ControlNet": "Kosinkadink",
    "ComfyUI-IPAdapter-Flux": "Shakker-Labs",
    "ComfyUI-Inpaint-CropAndStitch": "lquesada",
    "ComfyUI-KJNodes": "kijai",
    "ComfyUI-TeaCache": "welltop-cn",
    "ComfyUI-TiledDiffusion": "shiimizu",
    "ComfyUI_AdvancedRefluxControl": "kaibioinfo",
    "ComfyUI_IPAdapter_plus": "cubiq",
    "ComfyUI_PuLID_Flux_ll": "lldacing",
    "ComfyUI_UltimateSDUpscale": "ssitu",
    "PuLID_ComfyUI": "cubiq",
    "Comfy-WaveSpeed": "chengzeyi",
    "comfyui_jankhidiffusion": "blepping",
    "x-flux-comfyui": "XLabs-AI",
}
FACES = (  # what packs import to find faces with
    "cv2", "facexlib", "facexlib.detection", "facexlib.parsing", "facexlib.utils",
    "facexlib.utils.face_restoration_helper", "facexlib.utils.misc", "insightface", "insightface.app",
    "insightface.utils", "insightface.utils.download", "insightface.utils.storage",
)  # fmt: skip


class NotCalled(ModuleType):
    """A library that a pack imports, and that is not called."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def without_faces(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pack can be imported where nothing is that it finds faces with; of its own vision model only the constants."""
    for library in FACES:
        monkeypatch.setitem(sys.modules, library, NotCalled(library))
    vision = NotCalled("eva_clip")
    vision.__path__ = [str(folder_of(name) / "eva_clip")]
    monkeypatch.setitem(sys.modules, f"{folder_of(name)}.eva_clip", vision)


@functools.cache
def nodes_of(name: str) -> dict[str, Any]:
    """The node classes of a pack, which ComfyUI itself loads."""
    before = dict(comfyui_nodes.NODE_CLASS_MAPPINGS)
    assert asyncio.run(comfyui_nodes.load_custom_node(str(folder_of(name)))), f"ComfyUI cannot load {name}"
    return {key: node for key, node in comfyui_nodes.NODE_CLASS_MAPPINGS.items() if before.get(key) is not node}


@functools.cache
def part_of(name: str, file: str) -> ModuleType:
    """One module of a pack whose other modules want libraries that are not here; it is named as ComfyUI names it."""
    path = folder_of(name)
    package = ModuleType(str(path))
    package.__path__ = [str(path)]
    sys.modules[package.__name__] = package
    for folder in (path / part for part in file.split(".")[:-1]):
        inner = ModuleType(f"{package.__name__}.{folder.name}")
        inner.__path__ = [str(folder)]
        sys.modules[inner.__name__] = inner
    spec = importlib.util.spec_from_file_location(f"{package.__name__}.{file}", path / f"{file.replace('.', '/')}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def folder_of(name: str) -> Path:
    assert FOLDER is not None
    path = Path(FOLDER) / name
    assert path.is_dir(), f"no clone of {name} in {FOLDER}: clone it there"
    return path


def commit_of(name: str) -> str:
    command = ["git", "-C", str(folder_of(name)), "log", "-1", "--format=%h"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
