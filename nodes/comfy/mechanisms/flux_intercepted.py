"""In the place of an adapter of Flux that calls PyTorch's attention, while the denoiser runs: it runs the same code."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ....i2am_core.tokens import TokenGroup
from ..attention_call import Arguments
from ..eager import eager
from ..pending_call import Attend, PendingCall
from ..proxy import Proxy
from ..torch_attention import TorchAttention
from .flux_adapter_call import AdapterCall, AdapterMechanism, report


class InterceptedAdapter(Proxy):
    """An adapter of the tokens of ``group``, for one call of the denoiser."""

    def __init__(self, original: Any, group: TokenGroup, options: Mapping[str, Any], attend: Attend) -> None:
        super().__init__(original)
        self.group, self.options, self.attend = group, options, attend
        self._call = eager(self._watched)

    def counts(self, arguments: Arguments) -> bool:
        """Whether an attention call of the adapter can be captured."""
        return True

    def why_nothing(self, result: Any) -> AdapterMechanism:
        """What is said of a call of the adapter in which no attention counted, by what it returned."""
        raise NotImplementedError

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(args, kwargs)

    def _watched(self, args: tuple, kwargs: Mapping[str, Any]) -> Any:
        adapter, pending_calls = AdapterCall(self.group), list[PendingCall]()

        def attention(arguments: Arguments) -> Tensor:
            if not self.counts(arguments):
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
        query = next((x for x in (*args, *kwargs.values()) if isinstance(x, Tensor) and x.ndim == 4), None)
        if not pending_calls and query is not None:  # [B, H, N, D]
            report(self.attend, self.options, self.why_nothing(result), query[:, 0], query.shape[1])
        return result
