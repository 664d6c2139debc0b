"""What must not become a part of a compiled model's graph."""

import sys
from collections.abc import Callable
from types import CodeType

import torch


def eager(function: Callable) -> Callable:
    """Kept out of the graph of a compiled model. PyTorch's compiler is slow to import: only where it is there."""
    return torch.compiler.disable(function) if "torch._dynamo" in sys.modules else function


def keep_frames(code: CodeType) -> None:
    """A function with this code keeps its frame, and what is in it, where it is called from Python.

    PyTorch's compiler would make another one, without the variables that it has no more use for. As a part of a larger
    graph the function is compiled as before. PyTorch without ``skip_code`` compiles its frames, too.
    """
    skip_code: Callable | None = getattr(sys.modules.get("torch._dynamo.eval_frame"), "skip_code", None)
    if skip_code is not None:
        skip_code(code)
