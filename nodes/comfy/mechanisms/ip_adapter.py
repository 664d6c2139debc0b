"""Decoupled cross-attention: IP-Adapter, InstantID and whatever else replaces attn2 as IPAdapter_plus does.

Contract (``Attn2Replace``, CrossAttentionPatch.py of cubiq/ComfyUI_IPAdapter_plus): the object at
``patches_replace["attn2"][block]`` has lists ``callback`` and ``kwargs``. It attends to the text, and adds what each
callback returns: attention to the tokens of its own images alone, times a weight and a mask. Both use the
``optimized_attention`` of their module and give it no options, so none of it comes through ComfyUI's override.

The options of a run have an ``_InterceptedAdapter`` in the place of each such object. It runs the same code on a copy
of the object, but that attention is called through the engine (``intercepted_functions``). By how much a callback
multiplies its attention is measured, row by row: what it returned over what attention gave it. Where the one is not a
multiple of the other, the call is skipped.

A share is the softmax times its gain: all that the adapter has multiplied the values with (``factor``).

An adapter is *off* in a call of the object that does not call its callback, since the step is not one of its own, or
whose callback adds 0 without any attention, since its weight is 0 there. That is observed, too, and counts as 0.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from ....i2am_core.attribution import Layer, Reference
from ....i2am_core.recording.recorder import Verdict
from ....i2am_core.tokens import TokenGrid, TokenGroup
from ..attention_call import Arguments
from ..intercepted_functions import can_intercept, with_attention
from ..located import CallSite, Chunk, Given, Located, ModelCall, Off, Skip
from ..pending_call import Attend, PendingCall, chained
from ..proxy import Proxy
from ..steered_kernel import kernel_of
from ..tags import tagged
from ..values import factor
from .base import NOT_THE_FEATURE_MAP, Documented, Mechanism

NAMES = {"ipadapter_attention": "IP-Adapter", "instantid_attention": "InstantID", "pulid_attention": "PuLID"}
CLIP = TokenGrid(16, 16)  # patches of a vision model of 224 pixels, after its CLS token
SECOND = (", composition image", " composition")  # what name and key of a second image end with
TEXT = "cross-attention to the text, beside which IP-Adapter has its own"
TAGGED = "cross-attention to the text and to tagged reference tokens, beside which IP-Adapter has its own"
UNOBSERVED = "an IP-Adapter of a kind that I2AM cannot capture: maps of it are missing"
UNCHOSEN = "attention of an IP-Adapter, which is not the mechanism that was chosen"
NO_MULTIPLE = "an IP-Adapter that does more with its attention than to weight and mask it"
NO_IMAGE = (
    "an IP-Adapter whose tokens are all alike for this conditioning in this layer, as where it has no image (the "
    "'precise' weight types give it to the negative conditioning instead)"
)
NOT_APPLIED = "its node does not apply it then (see its start_at and end_at)"
WEIGHT_IS_ZERO = "its weight is 0"
LEFT_OUT = "its weight type, or its weights by layer, leave that out"
OTHER_IMAGE = "its adapter has another image for that"
ADDS_NOTHING = "its node adds nothing to the text's attention then"
CHANGED_VALUES = (
    "an IP-Adapter changed its values by more than a factor ({}): shares are of the values as changed, without that"
)


class IPAdapter(Mechanism):
    name = "IP-Adapter"
    priority = 50
    documented = (
        Documented(
            users="IPAdapter_plus and InstantID nodes, before or after Capture; several at once",
            captured="attention of its own, and how much it counts (weight, weight types, masks, schedule): "
            "measured from what the adapter returned",
            spatial="257 tokens: 16x16 of the central square, the CLS token apart. 4 tokens: no. 16: approximately,"
            " see below",
            certainty="exact",
            limits="steps and layers in which it is off, and a weight of 0, count as 0; adapters that do more than "
            "weight and mask their attention are skipped; `precise` weight types "
            "give the image to the negative conditioning, which the summary says; `K+mean(V)` is captured without its"
            " weight, which it says too; of the text attention beside it tagged tokens alone are captured; "
            "a share is of a softmax of its own, not comparable with joint attention. Of InstantID only the contract "
            "was tried",
        ),
        Documented(
            users="PuLID for SDXL (PuLID_ComfyUI) with its method `neutral`, or without a projection",
            captured="the same, of a face",
            spatial="no: 10 tokens of one face, and zeros behind them where its fidelity adds these",
            certainty="exact",
            limits="its methods `fidelity` and `style` do more with their attention than to weight it, and are refused",
            name="PuLID for SDXL",
        ),
        Documented(
            users="*I2AM IPAdapter Reference* between Capture and Collect, with what goes into the IPAdapter node",
            captured="the 16 tokens, rolled out on to the CLIP patches through the attention of the adapter's "
            "Resampler; where the image acts in the picture stays as captured",
            spatial="16x16 of the central square",
            certainty="**approximate** for generated to reference; exact for reference to generated",
            limits="CLIP's features are mixed between patches already. The class token's part is left out, and the "
            "summary says how much it is. The image is recognised by its tokens, another one is refused; so are "
            "tiles, combined or weighted embeds",
            name="IP-Adapter Plus on its image",
        ),
    )

    def is_in_use(self, chunk: Chunk, call: ModelCall) -> bool:
        """No attention of an adapter comes through ComfyUI's override. An ``_Adapter`` locates it."""
        return False

    def may_be_read(self, role: str, call: ModelCall) -> bool:
        return False

    def given(self, run: Given) -> list[Reference]:
        """Those of every adapter whose tokens are known, also if it starts late or has a weight of 0.

        The negative conditioning has tokens of its own, which are no reference.
        """
        if run.branch == "negative":
            return []
        replacements = run.options.get("patches_replace", {}).get("attn2", {})
        references: dict[Reference, None] = {}
        for patch in replacements.values():
            if isinstance(patch, _InterceptedAdapter):
                references.update(dict.fromkeys(patch.references()))
        return list(references)

    def install(self, options: dict[str, Any], attend: Attend) -> None:
        replacements = options.get("patches_replace", {}).get("attn2", {})
        for block, patch in replacements.items():
            if isinstance(patch, _InterceptedAdapter):  # by another node of ours, which is inside this one
                replacements[block] = _InterceptedAdapter(patch.original, chained(attend, patch.attend))
            elif _is_adapter(patch):
                replacements[block] = _InterceptedAdapter(patch, attend)


class UnchosenAdapters(IPAdapter):
    """Adapters beside tagged tokens that alone were chosen: the attention to the text is in the pack's function."""

    def given(self, run: Given) -> list[Reference]:
        return []

    def install(self, options: dict[str, Any], attend: Attend) -> None:
        def attend_to_text(arguments: Arguments, options: Mapping[str, Any], mechanism: Mechanism) -> PendingCall:
            if mechanism.is_off:
                return PendingCall(arguments)
            return attend(arguments, options, mechanism if mechanism.of_text else _AlwaysSkipped(UNCHOSEN, absent=True))

        super().install(options, attend_to_text)


def _is_adapter(patch: Any) -> bool:
    callbacks, kwargs = getattr(patch, "callback", None), getattr(patch, "kwargs", None)
    lists = isinstance(callbacks, list) and isinstance(kwargs, list) and len(callbacks) == len(kwargs)
    return lists and can_intercept(type(patch).__call__)


class _InterceptedAdapter(Proxy):
    """In the place of a pack's replacement of attn2, for one run."""

    def __init__(self, original: Any, attend: Attend) -> None:
        super().__init__(original)
        self.attend = attend

    def to(self, *args: Any, **kwargs: Any) -> "_InterceptedAdapter":
        """ComfyUI moves patches to the device, and keeps what this returns."""
        moved = self.original.to(*args, **kwargs) if hasattr(self.original, "to") else self.original
        return self if moved is self.original else _InterceptedAdapter(moved, self.attend)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, options: Mapping[str, Any]) -> Tensor:
        patch = copy.copy(self.original)
        adapters = {number: callback for number, callback in enumerate(patch.callback) if can_intercept(callback)}
        called: set[int] = set()
        patch.callback = [
            self._intercepted(number, callback, called) if number in adapters else self._reported(callback)
            for number, callback in enumerate(patch.callback)
        ]

        def attention(attention: Callable, args: tuple, kwargs: Mapping[str, Any]) -> Tensor:
            pending_call = self.attend(_arguments(attention, args, kwargs), options, _AlwaysSkipped(TEXT, of_text=True))
            output = pending_call.run()
            pending_call.end()
            return output

        call: Any = type(self.original).__call__  # a plain function: else this would not be in its place
        output = with_attention(call, attention)(patch, q, k, v, options)
        for number in adapters.keys() - called:
            adapter = _Adapter(self._name(number), str(number), options, self.original.kwargs[number])
            self._report_off(adapter.off_here(NOT_APPLIED), q, k, v, options)
        return output

    def references(self) -> Iterator[Reference]:
        """What is known of the adapters' references before any attention call."""
        for number, (callback, kwargs) in enumerate(zip(self.original.callback, self.original.kwargs, strict=True)):
            adapter = _Adapter(self._name(number), str(number), {}, kwargs)
            if can_intercept(callback):
                yield from adapter.references()

    def _name(self, number: int) -> str:
        names = [_name(callback) for callback in self.original.callback]
        occurrence = names[: number + 1].count(names[number])
        return f"{names[number]} {occurrence}" if names.count(names[number]) > 1 else names[number]

    def _intercepted(self, number: int, callback: FunctionType, called: set[int]) -> Callable:
        """The callback, whose attention calls go through the engine; its number is added to ``called``."""

        def intercepted(out: Tensor, q: Tensor, k: Tensor, v: Tensor, options: Mapping[str, Any], **kwargs: Any) -> Any:
            called.add(number)
            adapter = _Adapter(self._name(number), str(number), options, kwargs)
            pending_calls: list[PendingCall] = []

            def attention(attention: Callable, args: tuple, kwargs: Mapping[str, Any]) -> Tensor:
                adapter.attention = args
                pending_calls.append(self.attend(_arguments(attention, args, kwargs), options, adapter))
                output = pending_calls[-1].run()
                adapter.output = output.clone()  # as it was then: others may go on to change it in place
                return output

            result = with_attention(callback, attention)(out, q, k, v, options, **kwargs)
            adapter.result = result if len(pending_calls) == 1 and isinstance(result, Tensor) else None
            for pending_call in pending_calls:
                pending_call.end()
            if pending_calls:
                self._report_off(adapter.off_here(OTHER_IMAGE, beside_read=True), q, k, v, options)
            elif isinstance(result, Tensor) or result != 0:
                self._report_unobserved(q, k, v, options)
            else:
                self._report_off(adapter.off_here(adapter.why_nothing()), q, k, v, options)
            return result

        return intercepted

    def _reported(self, callback: Callable) -> Callable:
        """The callback, whose attention cannot be intercepted: it counts as one skip."""

        def reported(out: Tensor, q: Tensor, k: Tensor, v: Tensor, options: Mapping[str, Any], **kwargs: Any) -> Any:
            self._report_unobserved(q, k, v, options)
            return callback(out, q, k, v, options, **kwargs)

        return reported

    def _report_unobserved(self, q: Tensor, k: Tensor, v: Tensor, options: Mapping[str, Any]) -> None:
        """A call that is a skip: what it stands for is run by the pack."""
        self._report(_AlwaysSkipped(UNOBSERVED), q, k, v, options)

    def _report_off(self, off: "_OffHere", q: Tensor, k: Tensor, v: Tensor, options: Mapping[str, Any]) -> None:
        """What is off where these would be the queries."""
        if off.references:
            self._report(off, q, k, v, options)

    def _report(self, mechanism: IPAdapter, q: Tensor, k: Tensor, v: Tensor, options: Mapping[str, Any]) -> None:
        """Go through the engine with nothing to compute."""
        pending_call = self.attend(_arguments(_nothing, (q, k, v, options["n_heads"]), {}), options, mechanism)
        pending_call.run()
        pending_call.end()


def _arguments(attention: Callable, args: tuple, kwargs: Mapping[str, Any]) -> Arguments:
    return Arguments(kernel_of(attention), args, kwargs)


def _nothing(q: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return q


def _name(callback: Any) -> str:
    given = getattr(callback, "__name__", type(callback).__name__)
    return NAMES.get(given, given)


class _AlwaysSkipped(IPAdapter):
    """Of a call of which it is known already that it is skipped, and for which reason."""

    def __init__(self, reason: str, of_text: bool = False, absent: bool = False) -> None:
        self.reason, self.of_text, self.absent = reason, of_text, absent

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Skip:
        if self.of_text and tagged(chunk.conditioning):
            return Skip(TAGGED)
        return Skip(self.reason, absent=self.of_text or self.absent)


class _OffHere(IPAdapter):
    """Of references that are off, in a call with these ``options``, for a ``reason``."""

    is_off = True

    def __init__(self, references: Sequence[TokenGroup], options: Mapping[str, Any], reason: str) -> None:
        self.references, self.options, self.reason = tuple(references), options, reason

    def off(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Off | None:
        if site.grid is None or site.grid.cells != site.queries or _is_negative(chunk, self.options):
            return None
        return Off(Layer(site.layer, site.grid, site.heads), self.references, self.reason)


@dataclass
class _Adapter(IPAdapter):
    """One adapter in one layer: the arguments of its callback, its attention, and what it returned ``[B, N, C]``."""

    reference: str
    key: str
    options: Mapping[str, Any]
    kwargs: Mapping[str, Any]
    attention: tuple = ()  # arguments of its attention
    output: Tensor | None = None  # of its attention
    result: Tensor | None = None  # of its callback; None where that did not make exactly one attention call

    def references(self) -> list[Reference]:
        """Known before any attention call; none where the tokens are of a kind that is not known."""
        groups = (group for embeds, suffixes in self._given() for group in self._groups_of(embeds, suffixes))
        return list(dict.fromkeys(Reference.of(group) for group in groups))

    def off_here(self, reason: str, beside_read: bool = False) -> _OffHere:
        """Its references as off in this call; ``beside_read``: but those of the image that is attended to."""
        used = self._used_embeds if beside_read else None
        groups: dict[Reference, TokenGroup] = {}
        for embeds, suffixes in self._given():
            if embeds is not used:
                groups |= {Reference.of(group): group for group in self._groups_of(embeds, suffixes)}
        if beside_read:  # the same image may be given for several layers
            read = SECOND if self._second_embeds is not None else ("", "")
            for group in self._groups_of(used, read):
                groups.pop(Reference.of(group), None)
        return _OffHere(list(groups.values()), self.options, reason)

    def why_nothing(self) -> str:
        """Why the callback has added 0 without any attention."""
        weight = self.kwargs.get("weight")
        if isinstance(weight, Mapping):
            if self.options["transformer_index"] not in weight:
                return LEFT_OUT
            weight = weight[self.options["transformer_index"]]
        is_zero = not bool(weight.any()) if isinstance(weight, Tensor) else weight == 0
        return WEIGHT_IS_ZERO if is_zero else ADDS_NOTHING

    def _given(self) -> list[tuple[Any, tuple[str, str]]]:
        """The tokens of the image, and of those for some layers, with what name and key end with."""
        by_layer = (
            (self.kwargs.get("cond_alt") or {}).values() if isinstance(self.kwargs.get("weight"), Mapping) else ()
        )
        return [(self.kwargs.get("cond"), ("", "")), *((embeds, SECOND) for embeds in by_layer)]

    def _groups_of(self, embeds: Any, suffixes: tuple[str, str]) -> tuple[TokenGroup, ...]:
        """None where the tokens are of a kind that is not known."""
        if (known := _images(embeds)) is None:
            return ()
        (count, tokens), (name, key) = known, suffixes
        images = self._one_each(count)
        return _groups(self.reference + name, self.key + key, images, tokens, embeds if images == count else None)

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip:
        rows = chunk.rows
        if site.grid is None or site.grid.cells != site.queries:
            return Skip(NOT_THE_FEATURE_MAP.format(site.queries, site.grid))
        tokens = self.attention[1].shape[1]
        images = site.keys // tokens
        second = ("", "") if self._second_embeds is None else SECOND
        name, key = self.reference + second[0], self.key + second[1]
        groups = _groups(name, key, images, tokens, self._embeds(images, tokens))
        layer, keys = Layer(site.layer, site.grid, site.heads), site.k[rows]
        negative = _is_negative(chunk, self.options)
        varies = site.keys > 1 and not negative
        verdicts = (Verdict((keys != keys[:, :, :1]).any(), NO_IMAGE),) if varies else ()
        located = Located(layer, slice(None), site.keys, groups, verdicts=verdicts, of_negative=negative)
        return replace(located, completed=lambda: self._with_gain(located, chunk))

    def _with_gain(self, located: Located, chunk: Chunk) -> Located | Skip:
        """With the factor by which the callback has multiplied its attention."""
        if self.output is None or self.result is None:
            return Skip(UNOBSERVED)
        gain, is_multiple = factor(self.output[chunk.rows], self.result[chunk.rows])
        remarks: tuple[Verdict, ...] = ()
        scaling = self.kwargs.get("embeds_scaling", "V only")
        if scaling != "V only":
            of_values, are_multiple = self._factor_of_values(chunk.rows, chunk.items)
            remarks = (Verdict(are_multiple, CHANGED_VALUES.format(scaling)),)
            gain = torch.where(are_multiple, gain * of_values, gain)
        verdicts = (*located.verdicts, Verdict(is_multiple, NO_MULTIPLE))
        return replace(located, gain=gain, remarks=remarks, verdicts=verdicts, completed=None)

    def _factor_of_values(self, rows: slice, items: int) -> tuple[Tensor, Tensor]:
        """What the values of a chunk were multiplied with, ``[items, 1]``, against those of the adapter's own layer.

        And whether they are such a multiple (boolean).
        """
        assert self.result is not None
        given = self.attention[2]  # [B * images, tokens, C]
        images = given.shape[0] // self.result.shape[0]
        given = given[rows.start * images : rows.stop * images]
        adapter = self.kwargs["ipadapter"]
        if hasattr(adapter, "get_multigpu_clone"):
            adapter = adapter.get_multigpu_clone(given.device)
        embeds = self._used_embeds
        own = adapter.ip_layers.to_kvs[self.kwargs["module_key"] + "_to_v_ip"](embeds)
        if self.kwargs.get("unfold_batch"):  # an image for each item; the last one for those that have none
            own = own[torch.arange(items, device=own.device).clamp(max=len(own) - 1)]
        else:
            own = own.repeat(items, 1, 1)
        if own.shape != given.shape:
            return given.new_ones(items, 1), given.new_zeros((), dtype=torch.bool)
        return factor(own.reshape(items, 1, -1), given.reshape(items, 1, -1))

    def _one_each(self, images: int) -> int:
        """How many images each item of the batch attends to."""
        return 1 if self.kwargs.get("unfold_batch") else images

    @property
    def _second_embeds(self) -> Tensor | None:
        """The tokens of a second image, which is for some layers (IPAdapter Style & Composition SDXL)."""
        if not isinstance(self.kwargs.get("weight"), Mapping):
            return None
        return (self.kwargs.get("cond_alt") or {}).get(self.options["transformer_index"])

    @property
    def _used_embeds(self) -> Any:
        """The tokens that the callback attends to in this layer."""
        return self.kwargs.get("cond") if self._second_embeds is None else self._second_embeds

    def _embeds(self, images: int, tokens: int) -> Tensor | None:
        """The tokens of each image ``[images, tokens, C]``, or None where they are not the same for all items."""
        used = self._used_embeds
        return used if isinstance(used, Tensor) and used.ndim == 3 and used.shape[:2] == (images, tokens) else None


def _is_negative(chunk: Chunk, options: Mapping[str, Any]) -> bool:
    """Whether the pack gives the rows its negative image: it chooses by this."""
    return bool(options["cond_or_uncond"][chunk.rows.start // chunk.items] == 1)


def _images(tokens: Any) -> tuple[int, int] | None:
    """How many images, and how many tokens each, of tokens ``[images, tokens, C]``; None for anything else."""
    return (tokens.shape[0], tokens.shape[1]) if isinstance(tokens, Tensor) and tokens.ndim == 3 else None


def _groups(name: str, key: str, images: int, tokens: int, embeds: Tensor | None) -> tuple[TokenGroup, ...]:
    """The images one after the other. 257 tokens are CLS, a reference of its own without a place, and a grid.

    They are what an adapter with ``MLPProjModel`` (IPAdapter_plus) makes of CLIP, token by token, none left out; the
    other kinds make 4, 6 or 16, also where an image is masked. No other number says anything of a layout.
    """
    groups = []
    for image in range(images):
        label = f"{name}, image {image + 1}" if images > 1 else name
        start, own = image * tokens, f"{key}.{image}"
        if tokens == CLIP.cells + 1:
            groups.append(TokenGroup(label, slice(start + 1, start + tokens), CLIP.cells, CLIP, own))
            groups.append(TokenGroup(f"{label}, CLS token", slice(start, start + 1), 1, None, own))
        else:
            own_embeds = None if embeds is None else embeds[image]
            groups.append(TokenGroup(label, slice(start, start + tokens), tokens, None, own, embeds=own_embeds))
    return tuple(groups)
