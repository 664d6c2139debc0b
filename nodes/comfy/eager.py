"""What must not become a part of a compiled model's graph."""

import sys
from collections.abc import Callable

import torch


def eager(function: Callable) -> Callable:
    """Kept out of the graph of a compiled model. PyTorch's compiler is slow to import: only where it is there."""
    return torch.compiler.disable(function) if "torch._dynamo" in sys.modules else function
