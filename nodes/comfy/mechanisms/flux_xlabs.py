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
from ..eager import eager
from ..pending_call import Attend, PendingCall, chained
from ..proxy import Proxy
from ..torch_attention import TorchAttention
from .flux_adapter_call import UNOBSERVED, AdapterCall, SkippedAdapter, group_of, report

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


class _Intercepted(Proxy):
    """In the place of an adapter's forward, for one call of the denoiser."""

    def __init__(self, original: Any, group: TokenGroup, options: Mapping[str, Any], attend: Attend) -> None:
        super().__init__(original)
        self.group, self.options, self.attend = group, options, attend
        self._call = eager(self._watched)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(args, kwargs)

    def _watched(self, args: tuple, kwargs: Mapping[str, Any]) -> Any:
        adapter, pending_calls = AdapterCall(self.group), list[PendingCall]()
        query = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.ndim == 4), None)

        def attention(arguments: Arguments) -> Tensor:
            if len(arguments.args[0]) > 1:
                return arguments.run()
            pending_calls.append(self.attend(arguments, self.options, adapter))
            output = pending_calls[-1].run()
            adapter.output = output.transpose(1, 2).flatten(2).clone()  # as it was then: some kernels give a view
            return output

        with TorchAttention(attention):
            result = self.original(*args, **kwargs)
        adapter.result = result if len(pending_calls) == 1 and isinstance(result, Tensor) else None
        for pending_call in pending_calls:
            pending_call.end()
        if not pending_calls and query is not None:
            several = isinstance(result, Tensor) and len(result) > 1
            skipped = SkippedAdapter(SEVERAL_ROWS if several else UNOBSERVED)
            report(self.attend, self.options, skipped, query[:, 0], query.shape[1])
        return result
