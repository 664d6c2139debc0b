"""Decoupled cross-attention: IP-Adapter, InstantID and whatever else replaces attn2 as IPAdapter_plus does.

Contract (``Attn2Replace``, CrossAttentionPatch.py of cubiq/ComfyUI_IPAdapter_plus): the object at
``patches_replace["attn2"][block]`` has lists ``callback`` and ``kwargs``. It attends to the text, and adds what each
callback returns: attention to the tokens of its own images alone, times a weight and a mask. Both use the
``optimized_attention`` of their module and give it no options, so ComfyUI's override never hears of it.

For a run, each such object has a stand-in, in the run's own options. It runs the same code on a copy of the object,
as functions in whose globals ``optimized_attention`` is a listener: no module is changed, and no lock is needed.
How much a callback makes of its attention is not worked out again, but measured, row by row: what it returned over
what attention gave it. Where the one is not a multiple of the other, the call is skipped.

``g`` times the softmax is the share, where g is all that the values are multiplied with.
"""

import copy
import dis
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import Tensor

from ....i2am_core.attribution import Layer
from ....i2am_core.tokens import TokenGrid, TokenGroup
from .base import CallSite, Chunk, ModelCall, Observe, Probe, Skip

ATTENTION = "optimized_attention"
NAMES = {"ipadapter_attention": "IP-Adapter", "instantid_attention": "InstantID", "pulid_attention": "PuLID"}
CLIP = TokenGrid(16, 16)  # patches of a vision model of 224 pixels, after its CLS token
TEXT = "cross-attention to the text, beside which IP-Adapter has its own"
UNSEEN = "an IP-Adapter of a kind that I2AM cannot look into: maps of it are missing"
NO_MULTIPLE = "an IP-Adapter that does more with its attention than to weight and mask it"
NEGATIVE = "attention of the negative conditioning to an IP-Adapter's negative image"
ELSEWHERE = (
    "an IP-Adapter that has no image for this conditioning in this layer: with the 'precise' weight types it is given "
    "to the negative conditioning instead"
)
UNKNOWN_VALUES = (
    "an IP-Adapter changed its values by more than a factor ({}): shares are of the values as changed, without that"
)


class IPAdapter:
    name = "IP-Adapter"

    def probe(self, site: CallSite, chunk: Chunk, call: ModelCall) -> None:
        """Its own attention does not come this way."""

    def install(self, options: dict[str, Any], observe: Observe) -> None:
        replacements = options.get("patches_replace", {}).get("attn2", {})
        for block, patch in replacements.items():
            if _is_adapter(patch):
                replacements[block] = _StandIn(patch, observe)


def _is_adapter(patch: Any) -> bool:
    callbacks, kwargs = getattr(patch, "callback", None), getattr(patch, "kwargs", None)
    lists = isinstance(callbacks, list) and isinstance(kwargs, list) and len(callbacks) == len(kwargs)
    return lists and _can_listen(type(patch).__call__)


class _StandIn:
    """In place of a replacement, for one run; whoever looks at it finds what the replacement has."""

    def __init__(self, patch: Any, observe: Observe) -> None:
        self._patch, self._observe = patch, observe

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_patch"], name)

    def __deepcopy__(self, memo: dict) -> "_StandIn":
        return self

    def to(self, *args: Any, **kwargs: Any) -> "_StandIn":
        """ComfyUI moves patches to the device, and keeps what this returns."""
        moved = self._patch.to(*args, **kwargs) if hasattr(self._patch, "to") else self._patch
        return self if moved is self._patch else _StandIn(moved, self._observe)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, options: Mapping[str, Any]) -> Tensor:
        patch, heard = copy.copy(self._patch), []
        names = [_name(callback) for callback in patch.callback]
        patch.callback = [
            self._listening(number, callback, names) if _can_listen(callback) else self._unseen(callback)
            for number, callback in enumerate(patch.callback)
        ]
        output = _listening(type(self._patch).__call__, heard)(patch, q, k, v, options)
        for attention in heard:
            self._observe(attention.args, attention.kwargs, options, _Answer(Skip(TEXT)))
        return output

    def _listening(self, number: int, callback: FunctionType, names: list[str]) -> Callable:
        name = names[number]
        if names.count(name) > 1:
            name += f" {names[: number + 1].count(name)}"

        def listening(out, q, k, v, options, **kwargs):
            heard: list[_Heard] = []
            result = _listening(callback, heard)(out, q, k, v, options, **kwargs)
            for attention in heard:
                once = len(heard) == 1 and isinstance(result, Tensor)
                adapter = _Adapter(name, str(number), attention, result, options, kwargs) if once else None
                self._observe(attention.args, attention.kwargs, options, adapter or _Answer(Skip(UNSEEN)))
            if not heard and isinstance(result, Tensor):
                self._observe((q, k, v, options["n_heads"]), {}, options, _Answer(Skip(UNSEEN)))
            return result

        return listening

    def _unseen(self, callback: Callable) -> Callable:
        def unseen(out, q, k, v, options, **kwargs):
            self._observe((q, k, v, options["n_heads"]), {}, options, _Answer(Skip(UNSEEN)))
            return callback(out, q, k, v, options, **kwargs)

        return unseen


def _name(callback: Any) -> str:
    given = getattr(callback, "__name__", type(callback).__name__)
    return NAMES.get(given, given)


@dataclass(frozen=True)
class _Heard:
    """One call of attention."""

    args: tuple
    kwargs: Mapping[str, Any]
    output: Tensor  # as it was then: others may go on to change it in place


def _can_listen(function: Any) -> bool:
    """Plain functions that call attention by its name in their globals, and set no globals themselves."""
    if not isinstance(function, FunctionType) or ATTENTION not in function.__globals__:
        return False
    return not _sets_globals(function.__code__)


@cache
def _sets_globals(code: CodeType) -> bool:
    return any(instruction.opname == "STORE_GLOBAL" for instruction in dis.get_instructions(code))


def _listening(function: FunctionType, heard: list[_Heard]) -> FunctionType:
    """The same code and globals, but that attention is written down in ``heard``."""
    attention = function.__globals__[ATTENTION]

    def listener(*args: Any, **kwargs: Any) -> Tensor:
        output = attention(*args, **kwargs)
        heard.append(_Heard(args, kwargs, output.clone()))
        return output

    names = {**function.__globals__, ATTENTION: listener}
    same = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    same.__kwdefaults__ = function.__kwdefaults__
    return same


@dataclass(frozen=True)
class _Answer:
    """What is already known of a call."""

    answer: Skip
    name: str = IPAdapter.name

    def probe(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Skip:
        return self.answer


@dataclass(frozen=True)
class _Adapter:
    """What one adapter did in one layer: its attention, and what it returned ``[B, N, C]``."""

    reference: str
    key: str
    attention: _Heard
    result: Tensor
    options: Mapping[str, Any]
    kwargs: Mapping[str, Any]
    name: str = IPAdapter.name

    def probe(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Probe | Skip:
        rows, items = chunk.rows, chunk.rows.stop - chunk.rows.start
        if self.options["cond_or_uncond"][rows.start // items] == 1:  # which tokens the adapter chooses goes by this
            return Skip(NEGATIVE)
        if site.grid is None or site.grid.cells != site.queries:
            return Skip(f"{site.queries} positions ask, which are not the {site.grid} cells of the feature map")
        keys = site.k[rows]
        if site.keys > 1 and bool((keys == keys[:, :, :1]).all()):
            return Skip(ELSEWHERE)
        gain = factor(self.attention.output[rows], self.result[rows])
        if gain is None:
            return Skip(NO_MULTIPLE)
        note, scaling = "", self.kwargs.get("embeds_scaling", "V only")
        if scaling != "V only":
            of_values = self._factor_of_values(rows, items)
            note = UNKNOWN_VALUES.format(scaling) if of_values is None else ""
            gain = gain if of_values is None else gain * of_values
        tokens = self.attention.args[1].shape[1]
        layer = Layer(site.layer, site.grid, site.heads)
        groups = _groups(self.reference, self.key, site.keys // tokens, tokens)
        return Probe(layer, slice(None), slice(0, site.keys), groups, gain, note)

    def _factor_of_values(self, rows: slice, items: int) -> Tensor | None:
        """What the values of a chunk were multiplied with, ``[items, 1]``: over those of the adapter's own layer."""
        given = self.attention.args[2]  # [B * images, tokens, C]
        images = given.shape[0] // self.result.shape[0]
        given = given[rows.start * images : rows.stop * images]
        adapter, other = self.kwargs["ipadapter"], self.kwargs.get("cond_alt") or {}
        if hasattr(adapter, "get_multigpu_clone"):
            adapter = adapter.get_multigpu_clone(given.device)
        embeds = other.get(self.options["transformer_index"], self.kwargs["cond"])
        own = adapter.ip_layers.to_kvs[self.kwargs["module_key"] + "_to_v_ip"](embeds)
        if self.kwargs.get("unfold_batch"):  # an image for each item; the last one for those that have none
            own = own[torch.arange(items).clamp(max=len(own) - 1).to(own.device)]
        else:
            own = own.repeat(items, 1, 1)
        if own.shape != given.shape:
            return None
        return factor(own.reshape(items, 1, -1), given.reshape(items, 1, -1))


def factor(before: Tensor, after: Tensor) -> Tensor | None:
    """``g [B, N]`` such that ``after = g * before [B, N, C]`` up to rounding, or None where there is none."""
    precision = torch.finfo(after.dtype)
    before, result = before.float(), after.float()
    tiny = torch.finfo(torch.float32).tiny
    scale = before.abs().amax(-1, keepdim=True).clamp(min=tiny)  # squares stay in range
    unit = before / scale
    found = (unit * result).sum(-1, keepdim=True) / (unit * unit).sum(-1, keepdim=True).clamp(min=tiny)
    rest = (result - found * unit).norm(dim=-1)
    rounding = max(4 * precision.eps, 1e-5) * result.norm(dim=-1)
    smallest = precision.tiny * precision.eps * result.shape[-1] ** 0.5  # below, numbers have few digits
    if not bool((rest <= rounding + smallest).all()):
        return None
    return (found / scale)[..., 0]


def _groups(name: str, key: str, images: int, tokens: int) -> tuple[TokenGroup, ...]:
    """Images one after the other. 257 tokens are CLS and a grid; CLS is a reference of its own, with no place."""
    groups = []
    for image in range(images):
        label = f"{name}, image {image + 1}" if images > 1 else name
        start, own = image * tokens, f"{key}.{image}"
        if tokens == CLIP.cells + 1:
            groups.append(TokenGroup(label, slice(start + 1, start + tokens), CLIP.cells, CLIP, own))
            groups.append(TokenGroup(f"{label}, CLS token", slice(start, start + 1), 1, None, own))
        else:
            groups.append(TokenGroup(label, slice(start, start + tokens), tokens, None, own))
    return tuple(groups)
