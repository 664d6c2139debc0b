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
from ..attention_call import Arguments
from ..blocks import ForeignModule
from ..eager import eager
from ..pending_call import Attend, PendingCall, chained
from ..proxy import Proxy
from ..torch_attention import TorchAttention
from .flux_adapter_call import NOT_APPLIED, UNOBSERVED, AdapterCall, OffAdapter, SkippedAdapter, group_of, report

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


class _Intercepted(Proxy):
    """In the place of a processor, for one call of the denoiser."""

    def __init__(self, original: Any, group: TokenGroup, options: Mapping[str, Any], attend: Attend) -> None:
        super().__init__(original)
        self.group, self.options, self.attend = group, options, attend
        self._call = eager(self._watched)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(args, kwargs)

    def _watched(self, args: tuple, kwargs: Mapping[str, Any]) -> Any:
        adapter, pending_calls = AdapterCall(self.group), list[PendingCall]()

        def attention(arguments: Arguments) -> Tensor:
            pending_calls.append(self.attend(arguments, self.options, adapter))
            output = pending_calls[-1].run()
            adapter.output = output.transpose(1, 2).flatten(2).clone()  # as it was then: some kernels give a view
            return output

        with TorchAttention(attention):
            result = self.original(*args, **kwargs)
        adapter.result = result if len(pending_calls) == 1 and isinstance(result, Tensor) else None
        for pending_call in pending_calls:
            pending_call.end()
        if not pending_calls:
            self._report(result is None, *args, *kwargs.values())
        return result

    def _report(self, is_off: bool, *args: Any) -> None:
        mechanism = OffAdapter(self.group, NOT_APPLIED) if is_off else SkippedAdapter(UNOBSERVED)
        query = next((x for x in args if isinstance(x, Tensor) and x.ndim == 4), None)  # [B, H, N, D]
        if query is not None:
            report(self.attend, self.options, mechanism, query[:, 0], query.shape[1])
