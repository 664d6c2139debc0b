"""Which function makes an attention call: the model's own block, or another pack's. It is named to people."""

import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

from ...i2am_core.printing import listed
from .proxy import Proxy

OUR_PACKAGE = __name__.rpartition(".")[0]
ATTENTION_MODULE = "comfy.ldm.modules.attention"
MODEL_CALLER = "apply_model"  # the function in ``hooks`` that calls the model: what is further out makes no attention
OF_COMFYUI = ("nodes", "comfy_extras", "comfy_api", "comfy_api_nodes")  # packages of nodes that are ComfyUI's own
NODE_FOLDERS = ("comfy_extras", "custom_nodes")
INTERMEDIARIES = ("torch", "contextlib", "functools", "threading", "comfy")  # they call on behalf of others


@dataclass(frozen=True)
class Function:
    """A function by its name and its module, which name the pack that it comes from."""

    name: str
    module: str

    def __str__(self) -> str:
        """ComfyUI names the modules of nodes by their path, of which no more is said than what is in its folders."""
        parts = re.split(r"[\\/]", self.module)
        folder = max((n for n, part in enumerate(parts) if part in NODE_FOLDERS), default=None)
        return f"{self.name} of {'/'.join(parts[-1:] if folder is None else parts[folder:])}"

    @property
    def pack(self) -> str:
        """The package that the module is in: ComfyUI names a pack's by its folder."""
        return self.module.partition(".")[0]

    @property
    def is_of_comfyui_node(self) -> bool:
        """Whether it is of a node that comes with ComfyUI, whose module may be named by its path."""
        folders = re.split(r"[\\/.]", self.module)
        return self.pack in OF_COMFYUI or ("comfy_extras" in folders and "custom_nodes" not in folders)

    @property
    def is_of_another_pack(self) -> bool:
        """Whether it is of neither ComfyUI's models nor PyTorch, nor ours."""
        return self.pack not in ("comfy", "torch") and not self.module.startswith(OUR_PACKAGE)


def function_of(called: Any) -> Function:
    """What runs when this is called: a function, a method, or an object, without what we have put around it."""
    while isinstance(called, partial | Proxy):
        called = called.func if isinstance(called, partial) else called.original
    called = getattr(called, "__func__", called)
    if not hasattr(called, "__qualname__"):
        called = type(called)
    return Function(called.__qualname__, called.__module__ or "")


def patches_of_packs(options: Mapping[str, Any], kind: str) -> list[Function]:
    """The functions that nodes have put into ``patches`` of a run's options, those that come with ComfyUI included."""
    functions = map(function_of, options.get("patches", {}).get(kind, ()))
    return [function for function in dict.fromkeys(functions) if function.is_of_another_pack]


def one_of(functions: Sequence[Function]) -> str:
    """Them as the subject of a sentence: one of them it was, or one is all there is."""
    names = [str(function) for function in functions]
    return ("" if len(names) == 1 else "one of ") + listed(names)


def calling_pack_function(own: Collection[str]) -> Function | None:
    """The function of another pack that makes the present attention call; None where the model's own does.

    The stack is read from the attention call outwards. The call is the model's own where its code, which is in one of
    the modules ``own``, comes before any pack's.
    """
    frame: FrameType | None = _outside_attention(sys._getframe(1))
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module in own or (module == f"{OUR_PACKAGE}.hooks" and frame.f_code.co_name == MODEL_CALLER):
            return None
        if module.partition(".")[0] not in INTERMEDIARIES and not module.startswith(OUR_PACKAGE):
            return Function(getattr(frame.f_code, "co_qualname", frame.f_code.co_name), module)
        frame = frame.f_back
    return None


def _outside_attention(frame: FrameType) -> FrameType | None:
    """The frame that called ``optimized_attention``, whose wrapper is in the same module as the U-Nets' blocks."""
    outside: FrameType | None = frame
    while outside is not None and (
        outside.f_globals.get("__name__", "").startswith((OUR_PACKAGE, "torch.")) or _is_wrapper(outside)
    ):
        outside = outside.f_back
    return outside


def _is_wrapper(frame: FrameType) -> bool:
    name = frame.f_code.co_name
    return frame.f_globals.get("__name__") == ATTENTION_MODULE and (name == "wrapper" or name.startswith("attention_"))
