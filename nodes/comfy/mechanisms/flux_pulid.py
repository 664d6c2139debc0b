"""PuLID for Flux, as ComfyUI_PuLID_Flux_ll by lldacing has it.

Contract (PulidFluxHook.py and encoders_flux.py there): the object at ``patches_replace["dit"][block]`` has lists
``callback`` and ``kwargs``. It runs the block, and adds to the picture's tokens what each callback returns that is on
in the step: what the perceiver ``pulid_model.model.pulid_ca[ca_idx]`` makes of the tokens ``embedding``, times a weight
and a mask. A perceiver has layers ``to_q``, ``to_kv`` and ``to_out``; between them is attention of its own.

The options of a run have an ``_Intercepted`` in the place of each such object. It runs the same code on a copy of the
object. What goes into ``to_out`` goes through the engine; that it is attention of what ``to_q`` and ``to_kv`` gave is
not assumed, but compared.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from comfy.ldm.modules.attention import optimized_attention
from torch import Tensor
from torch.nn import Module

from ....i2am_core.recording.recorder import Verdict
from ....i2am_core.tokens import TokenGroup
from ..attention_call import Arguments
from ..blocks import ForeignModule
from ..pending_call import Attend, PendingCall, chained
from ..proxy import Proxy
from ..steered_kernel import kernel_of
from .flux_adapter_call import NOT_APPLIED, UNOBSERVED, AdapterCall, OffAdapter, SkippedAdapter, group_of, report

NAME = "PuLID"
OTHER_ATTENTION = "a PuLID whose attention is not the softmax of its queries and keys"


def patches_with_pulid(options: Mapping[str, Any]) -> Iterator[Any]:
    """What is in the place of blocks and has this contract, in the ``transformer_options`` of a run."""
    for patch in options.get("patches_replace", {}).get("dit", {}).values():
        if _has_pulid(_without_ours(patch)):
            yield _without_ours(patch)


def groups_of(patch: Any) -> list[TokenGroup]:
    """The tokens of each PuLID in the place of a block."""
    names = [NAME] * len(patch.kwargs)
    return [group_of(names, number, own["embedding"].shape[1]) for number, own in enumerate(patch.kwargs)]


def intercept(patch: Any, attend: Attend) -> Any:
    """What is in the place of a block, with one of ours in the place of what has this contract."""
    if isinstance(patch, _Intercepted):  # by another node of ours, which is inside this one
        return _Intercepted(patch.original, chained(attend, patch.attend))
    if isinstance(patch, Proxy):
        around = copy.copy(patch)
        around.original = intercept(patch.original, attend)
        return around
    return _Intercepted(patch, attend) if _has_pulid(patch) else patch


def _without_ours(patch: Any) -> Any:
    while isinstance(patch, Proxy):
        patch = patch.original
    return patch


def _has_pulid(patch: Any) -> bool:
    callbacks, kwargs = getattr(patch, "callback", None), getattr(patch, "kwargs", None)
    if not isinstance(callbacks, list) or not isinstance(kwargs, list) or len(callbacks) != len(kwargs):
        return False
    return all(isinstance(own, Mapping) and _perceiver(own) is not None for own in kwargs)


def _perceiver(kwargs: Mapping[str, Any]) -> ForeignModule | None:
    """The network of a callback's attention, with the parts that are known; None where there is none."""
    tokens, number = kwargs.get("embedding"), kwargs.get("ca_idx")
    networks = getattr(getattr(kwargs.get("pulid_model"), "model", None), "pulid_ca", None)
    if not isinstance(tokens, Tensor) or tokens.ndim != 3 or not isinstance(number, int) or networks is None:
        return None
    network = networks[number]
    known = all(isinstance(getattr(network, name, None), Module) for name in ("to_q", "to_kv", "to_out"))
    return network if known and isinstance(getattr(network, "heads", None), int) else None


class _Intercepted(Proxy):
    """In the place of what a pack has put in the place of a block, for one run."""

    def __init__(self, original: Any, attend: Attend) -> None:
        super().__init__(original)
        self.attend = attend

    def __call__(self, given: Mapping[str, Any], further: Mapping[str, Any]) -> Any:
        options = further.get("transformer_options") or given.get("transformer_options") or {}
        patch, called = copy.copy(self.original), set[int]()
        groups = groups_of(patch)
        patch.callback = [
            self._watched(callback, number, groups[number], options, called)
            for number, callback in enumerate(patch.callback)
        ]
        output = patch(given, further)
        for number, group in enumerate(groups):
            if number not in called:
                heads = _heads(patch.kwargs[number])
                report(self.attend, options, OffAdapter(group, NOT_APPLIED), output["img"], heads)
        return output

    def _watched(
        self, callback: Callable, number: int, group: TokenGroup, options: Mapping[str, Any], called: set[int]
    ) -> Callable:
        """The callback, whose attention goes through the engine; its number is added to ``called``."""

        def watched(img: Tensor, **kwargs: Any) -> Any:
            called.add(number)
            network = _perceiver(kwargs)
            if network is None:
                return callback(img, **kwargs)
            perceiver = _Perceiver(network, group, options, self.attend)
            with perceiver.watched():
                result = callback(img, **kwargs)
            perceiver.end(result)
            if not perceiver.pending_calls:
                report(self.attend, options, SkippedAdapter(UNOBSERVED), img, _heads(kwargs))
            return result

        return watched


def _heads(kwargs: Mapping[str, Any]) -> int:
    heads: int = getattr(_perceiver(kwargs), "heads", 1)
    return heads


class _Perceiver:
    """A perceiver while one callback runs."""

    def __init__(self, network: ForeignModule, group: TokenGroup, options: Mapping[str, Any], attend: Attend) -> None:
        self.network, self.options, self.attend = network, options, attend
        self.adapter = AdapterCall(group)
        self.pending_calls: list[PendingCall] = []
        self._queries: Tensor | None = None
        self._keys_and_values: Tensor | None = None

    def watched(self) -> ExitStack:
        """Until what it returns is closed, the network's parts are hooked."""
        stack, network = ExitStack(), self.network
        for handle in (
            network.to_q.register_forward_hook(self._queries_made),
            network.to_kv.register_forward_hook(self._keys_made),
            network.to_out.register_forward_pre_hook(self._attended),
            network.register_forward_hook(self._made),
        ):
            stack.callback(handle.remove)
        return stack

    def end(self, result: Any) -> None:
        """The callback has returned ``result``."""
        self.adapter.result = result if len(self.pending_calls) == 1 and isinstance(result, Tensor) else None
        for pending_call in self.pending_calls:
            pending_call.end()

    def _queries_made(self, module: Module, args: tuple, output: Tensor) -> None:
        self._queries = output

    def _keys_made(self, module: Module, args: tuple, output: Tensor) -> None:
        self._keys_and_values = output

    def _attended(self, module: Module, args: tuple) -> tuple | None:
        """``args`` is what the network's attention gave: in its place comes what the engine makes of it."""
        q, both, own = self._queries, self._keys_and_values, args[0]
        if q is None or both is None or len(both) not in (1, len(q)) or own.shape != q.shape:
            return None
        k, v = both.expand(len(q), -1, -1).chunk(2, dim=-1)
        arguments = Arguments(self._kernel(own), (q, k, v, self.network.heads), {})
        expected = optimized_attention(q, k, v, self.network.heads)
        self.adapter.verdicts = (Verdict(_is_same(own, expected), OTHER_ATTENTION),)
        self.pending_calls.append(self.attend(arguments, self.options, self.adapter))
        return (self.pending_calls[-1].run(),)

    def _kernel(self, own: Tensor) -> Callable[[Arguments], Tensor]:
        """What the network's attention gave; only where it is steered is it made anew."""
        steered = kernel_of(optimized_attention)
        return lambda arguments: own if arguments.steering is None else steered(arguments)

    def _made(self, module: Module, args: tuple, output: Tensor) -> None:
        self.adapter.output = output.clone()  # as it was then


def _is_same(one: Tensor, other: Tensor) -> Tensor:
    """Whether two tensors are the same but for rounding, in each row of theirs, on the device."""
    difference, size = (x.float().norm(dim=-1) for x in (one.float() - other.float(), other))
    return (difference <= max(8 * torch.finfo(one.dtype).eps, 1e-4) * size).all()
