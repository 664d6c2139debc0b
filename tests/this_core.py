"""What this ComfyUI has: other versions than the pinned one may lack what a test is about, which is then skipped."""

import os
import re
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import comfyui_version
import pytest

VERSION = tuple(int(number) for number in re.findall(r"\d+", comfyui_version.__version__)[:3])
PINNED = (Path(os.environ["COMFYUI_PATH"]) / ".i2am-stamp").is_file()  # made by scripts/devenv: all tests must run

NAMES_BLOCKS = VERSION >= (0, 3, 75)  # in its options, which block of Flux, Qwen-Image or HunyuanVideo runs
HUNYUAN_TEXT_FIRST = VERSION >= (0, 14)  # before the video; in older cores, behind it


def need(module: ModuleType, name: str) -> Any:
    """The ``name`` of a module of ComfyUI's. Where another version lacks it the test is skipped, not on the pinned."""
    if not hasattr(module, name) and not PINNED:
        pytest.skip(f"ComfyUI {comfyui_version.__version__} has no {module.__name__}.{name}")
    return getattr(module, name)


NEWER = {  # what the pinned core lacks, in words: there, tests of anything else must run
    "LTX-2",
    "WanSCAILToVideo",
    "a strength of a guide, or a coarser grid",
    "attention of S2V that gets the run's options",
    "context windows that cut what is beside the latent",
    "WanAnimate2ToVideo",
    "WanDancerVideo",
    "BerniniConditioning",
}


def leave_out(what: str) -> NoReturn:
    """Skip a test of what this core lacks. On the pinned core only of what is known to be newer."""
    assert not PINNED or what in NEWER, f"the pinned ComfyUI lacks {what}"
    pytest.skip(f"ComfyUI {comfyui_version.__version__} lacks {what}")


def of_model(name: str, module: str = "comfy.supported_models") -> pytest.MarkDecorator:
    """The mark of a test of a model in comfy/supported_models.py: cores that lack it leave it out, and count it.

    Another ``module`` where the model is no entry there: one that has a ``name`` only where the model can be run.
    """
    return pytest.mark.of_model(name, module)


JOINT_DEMO = of_model("Flux2")  # tests of the demo model with two references: its Flux has the form of that one
