"""IP-Adapter for Flux, as ComfyUI-IPAdapter-Flux by Shakker-Labs has it.

Contract (flux/layers.py there): the model's blocks are others, with lists ``ip_adapter`` and ``image_emb``. Each
processor in the one is called with the tokens of the other at its place, and what it returns is added to what the
block's own attention gave: PyTorch's attention to ``to_k_ip`` and ``to_v_ip`` of these tokens, times a weight; None
where it is not applied. While the denoiser runs, each is one of ours, which runs the same code.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

from torch import Tensor

from ....i2am_core.tokens import TokenGroup
from ..blocks import ForeignModule
from ..pending_call import Attend, chained
from .flux_adapter_call import NOT_APPLIED, UNOBSERVED, AdapterMechanism, OffAdapter, SkippedAdapter, group_of
from .flux_intercepted import InterceptedAdapter

NAME = "IP-Adapter"


def blocks_with_adapters(denoiser: ForeignModule) -> Iterator[ForeignModule]:
    """The blocks of the denoiser that have adapters of this contract."""
    for kind in ("double_blocks", "single_blocks"):
        yield from (block for block in getattr(denoiser, kind, ()) if _has_adapters(block))


def groups_of(block: ForeignModule) -> list[TokenGroup]:
    """The tokens of each adapter of a block."""
    names = [NAME] * len(block.image_emb)
    return [group_of(names, number, tokens.shape[1]) for number, tokens in enumerate(block.image_emb)]


def intercept(block: ForeignModule, options: Mapping[str, Any], attend: Attend, stack: ExitStack) -> None:
    """Put one of ours in the place of each adapter of a block, until the stack is closed."""
    original = block.ip_adapter
    stack.callback(setattr, block, "ip_adapter", original)
    block.ip_adapter = [
        _intercepted(processor, group, options, attend)
        for processor, group in zip(original, groups_of(block), strict=True)
    ]


def _has_adapters(block: ForeignModule) -> bool:
    processors, tokens = getattr(block, "ip_adapter", None), getattr(block, "image_emb", None)
    if not isinstance(processors, list) or not isinstance(tokens, list) or len(processors) != len(tokens):
        return False
    known = all(hasattr(x, "to_k_ip") and hasattr(x, "to_v_ip") for x in processors)
    return known and all(isinstance(x, Tensor) and x.ndim == 3 for x in tokens)


def _intercepted(processor: Any, group: TokenGroup, options: Mapping[str, Any], attend: Attend) -> "_Intercepted":
    if isinstance(processor, _Intercepted):  # by another node of ours, which is inside this one
        return _Intercepted(processor.original, group, options, chained(attend, processor.attend))
    return _Intercepted(processor, group, options, attend)


class _Intercepted(InterceptedAdapter):
    """In the place of a processor."""

    def why_nothing(self, result: Any) -> AdapterMechanism:
        return OffAdapter(self.group, NOT_APPLIED) if result is None else SkippedAdapter(UNOBSERVED)
