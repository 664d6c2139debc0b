"""Whole runs of ComfyUI on the device that counts waits: what our nodes add to those of the plain run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from counting_device import DEVICE, NAME, Count, counting
from torch import Tensor

from i2am_pack.i2am_core.attention import logsumexp
from i2am_pack.i2am_core.attribution import Attribution
from i2am_pack.nodes.capture import I2AMCapture

MEMORY = 2**34
CAPTURE = {"mechanism": "auto", "branch": "positive", "pair_maps": "off", "budget_mb": 512}


@dataclass
class Counted:
    """A run beside the plain one: what was counted in both, and the maps of the former."""

    plain: Count
    count: Count
    attribution: Attribution

    @property
    def waits(self) -> int:
        """How many more it has than the plain run."""
        return self.count.waits.total() - self.plain.waits.total()

    def __str__(self) -> str:
        more = self.count.waits - self.plain.waits
        return "\n".join(f"{number:4d} {where}" for where, number in more.most_common())


def use_device(patch: pytest.MonkeyPatch) -> None:
    """Let ComfyUI sample on the device, and the core use CUDA's kernels there."""
    kernels = logsumexp._KERNELS_OF_DEVICE
    patch.setattr(logsumexp, "_KERNELS_OF_DEVICE", kernels | {NAME: kernels["cuda"]})
    patch.setattr(comfy.model_management, "get_torch_device", lambda: DEVICE)
    for name in ("get_free_memory", "get_total_memory"):
        patch.setattr(comfy.model_management, name, _memory)


def _memory(device: Any = None, torch_too: bool = False, **named: bool) -> int | tuple[int, int]:
    """In all; with what PyTorch has of it, where a flag, by whatever name, asks for that."""
    return (MEMORY, MEMORY) if torch_too or any(named.values()) else MEMORY


def on_device(model: ModelPatcher) -> ModelPatcher:
    """The same model, to be sampled there; with what packs have put into it."""
    model.load_device = DEVICE
    options = model.model_options["transformer_options"]
    for replacement in options.get("patches_replace", {}).get("attn2", {}).values():
        for arguments in replacement.kwargs:
            arguments |= {
                name: x.to(DEVICE) for name, x in arguments.items() if isinstance(x, Tensor | torch.nn.Module)
            }
    return model


def counted(
    graph: Any, wrap: Callable[[ModelPatcher], ModelPatcher] = lambda x: x, steps: int = 3, **capture: Any
) -> Counted:
    """A run with Capture, and what ``wrap`` puts on the line, beside the plain run. They make one picture.

    Each is the second one: what is done once a process, as the kernels' proofs, is done in the first.
    """
    counts = []
    with torch.inference_mode():
        model, handle = I2AMCapture.execute(on_device(graph.model), **(CAPTURE | capture)).args
        for one in (graph.model, graph.model, wrap(model), wrap(model)):
            with counting() as count:
                latent = graph.sample(one, steps=steps)["samples"]
            counts.append(count)
    return Counted(counts[1], counts[3], handle.find(latent))
