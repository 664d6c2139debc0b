"""IP-Adapter for Flux by XLabs, as x-flux-comfyui has it.

Contract (layers.py there): the model's double blocks are others, whose ``processor`` has ``ip_adapters``. Each is a
module with tokens ``ip_hidden_states``, and is called with the picture's queries: PyTorch's attention to keys and
values that its two layers make of the tokens, times a weight. The mean of that over all rows of the batch is added to
each row, so that it is attention of a row's own where there is one row alone.

The pack as it is does not run in ComfyUI's samplers any more: its blocks do not take what the model calls them with.
Copies in which that is mended do. Its own sampler is none of ComfyUI's, and nothing of it is seen.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

from torch import Tensor
from torch.nn import Module, ModuleList

from ....i2am_core.tokens import TokenGroup
from .. import own_forwards
from ..attention_call import Arguments
from ..blocks import ForeignModule
from ..pending_call import Attend, chained
from .flux_adapter_call import UNOBSERVED, AdapterMechanism, SkippedAdapter, group_of
from .flux_intercepted import InterceptedAdapter

NAME = "XLabs IP-Adapter"
SEVERAL_ROWS = (
    "the IP-Adapter of XLabs adds the mean over all pictures of a batch, or over its images: make one picture from one "
    "image, without guidance (cfg 1)"
)


def blocks_with_adapters(denoiser: ForeignModule) -> Iterator[ForeignModule]:
    """The blocks of the denoiser that have adapters of this contract."""
    yield from (block for block in getattr(denoiser, "double_blocks", ()) if _adapters(block))


def groups_of(block: ForeignModule) -> list[TokenGroup]:
    """The tokens of each adapter of a block."""
    adapters = _adapters(block)
    names = [NAME] * len(adapters)
    return [group_of(names, n, adapter.ip_hidden_states.shape[1]) for n, adapter in enumerate(adapters)]


def intercept(block: ForeignModule, options: Mapping[str, Any], attend: Attend, stack: ExitStack) -> None:
    """Watch each adapter of a block, and the block's own attention, until the stack is closed."""
    for adapter, group in zip(_adapters(block), groups_of(block), strict=True):
        present = vars(adapter).get("forward")
        inner = present if isinstance(present, _Intercepted) else None  # by another node of ours, inside this one
        own = attend if inner is None else chained(attend, inner.attend)
        adapter.forward = _Intercepted(adapter.forward if inner is None else inner.original, group, options, own)
        own_forwards.put_back(adapter, present, stack)
    own_forwards.observe_torch(block, options, attend, stack)


def _adapters(block: ForeignModule) -> list[Any]:
    adapters: Any = getattr(getattr(block, "processor", None), "ip_adapters", None)
    known = [*adapters] if isinstance(adapters, ModuleList | list | tuple) else []
    return known if all(_is_adapter(adapter) for adapter in known) else []


def _is_adapter(adapter: Any) -> bool:
    tokens = getattr(adapter, "ip_hidden_states", None)
    return isinstance(adapter, Module) and isinstance(tokens, Tensor) and tokens.ndim == 3


class _Intercepted(InterceptedAdapter):
    """In the place of an adapter's forward."""

    def counts(self, arguments: Arguments) -> bool:
        return len(arguments.args[0]) == 1

    def why_nothing(self, result: Any) -> AdapterMechanism:
        return SkippedAdapter(SEVERAL_ROWS if isinstance(result, Tensor) and len(result) > 1 else UNOBSERVED)
