"""Recording: the marginals of attention calls, of the references located in them, are put into the recorder.

This is the consumer of Capture. It looks, and changes nothing: only the row log-sum-exp is intercepted while the kernel
runs.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import comfy.ldm.modules.attention
import torch
from torch import Tensor

from ....i2am_core.attention.intercept import Interceptor
from ....i2am_core.attention.marginals import NO_NUMBERS, Logits, Marginals, Positions, attribute
from ....i2am_core.attention.on_device import brought, runs_alone
from ....i2am_core.attention.shortcut import Shortcut
from ....i2am_core.attention.stacked import Maps, Part, StackedCall, Values, alone
from ....i2am_core.attention.steered_marginals import SteeredItems
from ....i2am_core.attention.steering import Steering
from ....i2am_core.attention.together import Answer, Request, Waiting
from ....i2am_core.attribution import Attribution, Layer, Reference, ShareOwner
from ....i2am_core.recording.account import ComputedBy
from ....i2am_core.recording.off import zero_maps
from ....i2am_core.recording.recorder import Place, Recorder, Verdict
from ....i2am_core.recording.steps import How
from ....i2am_core.regions import cells_of
from ....i2am_core.tokens import Index, TokenGrid, TokenGroup
from ..attention_call import Arguments, AttentionCall
from ..handle import Settings
from ..located import UNREADABLE, Chunk, Located, ModelCall, Off, Skip
from ..placement import Placed
from ..values import notes_on
from .base import Consumer, LocatedIn

log = logging.getLogger(__name__)

NEAREST = "the area of a conditioning does not start on a cell of every layer: there, maps are put on the nearest cell"
NO_SHARES = "whose part of the attention is how large could not be recorded"
NOT_ACTIVE = "its conditioning is not active then (its start and end leave these steps out), while others are"
NO_PAIRS = "no pair maps are kept of conditionings that are limited to an area, nor of context windows"
NOT_NUMBERS = f"{UNREADABLE} ({NO_NUMBERS})"
WAITING_CHUNKS = 4  # of memory, that copies of calls take: 256 MB at the default budget, or four of Kontext's calls
ATTENTION = comfy.ldm.modules.attention.__name__
MOST_ATTEMPTS = 8  # calls of one attention function in which nothing could be intercepted, before that is given up


class Record(Consumer):
    """One run's recorder, and what decides how its attention calls are attributed.

    ``pair_maps`` is one of ``handle.PAIR_MAPS``; ``denoise_mask [items, h, w]`` is the inpainting mask on the latent's
    ``grid``.
    """

    def __init__(self, recorder: Recorder, pair_maps: str, grid: TokenGrid, denoise_mask: Tensor | None) -> None:
        self.recorder, self.pair_maps, self.grid, self.denoise_mask = recorder, pair_maps, grid, denoise_mask
        self._regions: dict[TokenGrid, Tensor] = {}
        self._not_intercepted: Counter[Callable] = Counter()  # calls of each attention function
        self._read_with: defaultdict[int, set[Any]] = defaultdict(set)  # of each reference uuids of conditionings
        self._active: defaultdict[int, set[Any]] = defaultdict(set)  # of each step uuids of those that were computed
        self._missed: set[str] = set()  # reasons of calls that were not read and may read a reference
        self._absent: set[str] = set()  # reasons of calls in which nothing that is in use reads one
        self._layers: dict[Layer, Layer] = {}
        self._numbered: dict[tuple, int] = {}  # numbers of references by what tells them apart
        self._waiting = Waiting(WAITING_CHUNKS * recorder.chunk_bytes, recorder.chunk_bytes)

    @property
    def is_empty(self) -> bool:
        """Whether there was no attention call of any kind."""
        return self.recorder.has_no_call and not self._waiting

    def given(self, references: Sequence[Reference], branch: str) -> None:
        self.recorder.given(references)

    def before(self, call: AttentionCall, located: Sequence[LocatedIn]) -> AttentionCall | None:
        """Intercept the kernel, unless its sums are not needed, or that was in vain for this function before."""
        arguments = call.arguments
        if arguments.override is None and runs_alone(call.q) and _needs_no_sums(call, located):
            return None
        if arguments.function is None or self._not_intercepted[arguments.function] >= MOST_ATTEMPTS:
            return None
        return call.with_kernel(InterceptedKernel(arguments.kernel))

    def after(self, call: AttentionCall, located: Sequence[LocatedIn], output: Tensor) -> None:
        logsumexp, values = self._intercepted(call), self._changed_values(call)
        if isinstance(call.arguments.kernel, InterceptedKernel):
            call.arguments.kernel.forget()
        notes = () if call.steering is None else tuple(call.steering.notes)
        for one in located:
            if values is not None:
                references = [group for match in one.by_mechanism.values() for group in match.references]
                before, after = (x[one.chunk.rows].flatten(0, 1) for x in values)
                self.note(*notes_on(before, after, references))
            places, requests = zip(*self._requests(call, one, logsumexp), strict=True)
            self._waiting.put(requests, partial(self._record, list(one.by_mechanism), places, notes), self._lost)

    def off(self, call: AttentionCall, chunk: Chunk, mechanism: str, off: Off) -> None:
        self._waiting.answer()  # layers and references are in the order of their calls
        placed = chunk.placement.on(off.layer.grid)
        layer = replace(off.layer, grid=placed.grid)
        is_one = sum(group.count for group in off.references) == 1
        numbers, region = self._numbers(chunk, off.references, is_one), self._region(layer.grid)
        pair_rows = None if placed.cells is not None else self._pair_rows(numbers, layer, off.references, region)
        for number, group in zip(numbers, off.references, strict=True):
            zero = zero_maps(layer, chunk.items, group.places, region is not None, pair_rows, call.q.device)
            self.recorder.off(_place(call, layer, number, group), zero, mechanism, off.reason, pair_rows)

    def evaluated(self, step: int, how: How, layers: Set[str] = frozenset()) -> None:
        self.recorder.evaluated(step, how, layers)

    def forward_ended(self, call: ModelCall, layers: Set[str]) -> None:
        self._waiting.ended()
        self.recorder.catch_up()
        self._active[call.step].update(chunk.conditioning.get("uuid") for chunk in call.chunks)

    def skip(self, skip: Skip, calls: int = 1) -> None:
        if calls:
            (self._absent if skip.absent else self._missed).add(skip.reason)
            self.recorder.skip(skip.reason, calls)
        else:
            self.recorder.note(skip.reason)

    def retract(self, layers: Sequence[str], skip: Skip) -> None:
        self.recorder.retract(layers, skip.reason)

    def note(self, *notes: str) -> None:
        self.recorder.note(*notes)

    def finished(self, settings: Settings, pictures: Mapping[str, Tensor]) -> Attribution:
        """The attribution; ``pictures`` are those of references, by their keys."""
        self._waiting.answer()
        self._add_steps_without()
        attribution = self.recorder.freeze(grid=self.grid, denoise_mask=self.denoise_mask, branch=settings.branch)
        # Those whose verdict failed, or that were retracted, are known to the recorder alone.
        missed = tuple(x for x in attribution.skipped if x in self._missed or x not in self._absent)
        keys = {f"reference {number}": reference.key for number, reference in enumerate(attribution.references)}
        return replace(
            attribution,
            pictures={name: pictures[key] for name, key in keys.items() if key in pictures},
            mechanism=attribution.mechanism or settings.mechanism,
            missed=missed,
            all_observed=settings.mechanism == "auto" and settings.every == 1 and not missed and not self.is_empty,
        )

    def _add_steps_without(self) -> None:
        """Count 0 in the steps in which conditionings of the branch were computed, but none that has the reference."""
        if self._missed:
            return
        for step, active in self._active.items():
            for number, own in self._read_with.items():
                if own.isdisjoint(active):
                    self.recorder.off_in_step(number, step, NOT_ACTIVE)

    def _numbers(self, chunk: Chunk, references: Sequence[TokenGroup], alone: bool) -> list[int]:
        """The numbers of references that are read with a conditioning, or are off in it; ``alone``: see Reference."""
        numbers = [self._number(group, alone) for group in references]
        for number in numbers:
            self._read_with[number].add(chunk.conditioning.get("uuid"))
        return numbers

    def _number(self, group: TokenGroup, alone: bool) -> int:
        """The number of one reference. Calls read the same ones again and again."""
        known = group.name, group.key, group.grid, group.places, group.approximate, alone
        if known not in self._numbered:
            self._numbered[known] = self.recorder.reference(replace(Reference.of(group), alone=alone))
        return self._numbered[known]

    def _intercepted(self, call: AttentionCall) -> Tensor | None:
        """The row log-sum-exp of the call, ``[B, H, N]``, where it could be intercepted."""
        kernel, function = call.arguments.kernel, call.arguments.function
        if not isinstance(kernel, InterceptedKernel) or kernel.interceptor is None:
            return None
        assert function is not None
        self._not_intercepted[function] += not kernel.interceptor.intercepted
        if call.steering is not None:
            return _steered_total(call, call.steering, kernel.interceptor, kernel.calls_made)
        return kernel.interceptor.total(call.q, call.k, call.scale, call.bias)

    def _changed_values(self, call: AttentionCall) -> tuple[Tensor, Tensor] | None:
        """The values of the call, and those that its kernel read, where another pack's override gives others."""
        kernel = call.arguments.kernel
        if call.arguments.override is None or call.steering is not None or not isinstance(kernel, InterceptedKernel):
            return None
        changed = None if kernel.interceptor is None else kernel.interceptor.changed_values(call.v)
        return None if changed is None else (call.v, changed)

    def _requests(
        self, call: AttentionCall, one: LocatedIn, logsumexp: Tensor | None
    ) -> "list[tuple[Destination, Request]]":
        """What is to be worked out of a chunk, for each mechanism that located any, and where it goes."""
        beside = None
        try:
            beside = _text_beside(call, one)
        except Exception as error:
            self._no_shares(error)
        return [
            self._request(call, one.chunk, match, logsumexp, None if number else beside)
            for number, match in enumerate(one.by_mechanism.values())
        ]

    def _request(
        self, call: AttentionCall, chunk: Chunk, located: Located, logsumexp: Tensor | None, beside: Index | None
    ) -> "tuple[Destination, Request]":
        """The same of one mechanism; ``beside`` are columns of the text that compete with its references."""
        rows, placed = chunk.rows, chunk.placement.on(located.layer.grid)
        layer = located.layer if placed.cells is None else replace(located.layer, grid=placed.grid)
        layer = self._one(layer)
        numbers = self._numbers(chunk, located.references, located.keys == 1)
        region = self._region(layer.grid)
        pair_rows = None if placed.cells is not None else self._pair_rows(numbers, layer, located.references, region)
        all_columns = located.keys == call.k.shape[2]  # which the intercepted sums are over
        total = logsumexp[rows] if all_columns and logsumexp is not None else None
        request = Request(
            call.q[rows],
            call.k[rows][:, :, : located.keys],
            located.references,
            Logits(call.scale, call.bias_of(rows, located.keys), total),
            Positions(located.queries, placed.gain(located.gain), placed.here(region), pair_rows),
            beside,
            attribute if call.steering is None else SteeredItems(call.steering, rows, call.shape).attribute,
        )
        groups = zip(numbers, located.references, strict=True)
        places = [_place(call, layer, number, group) for number, group in groups]
        return Destination(located, placed, region, pair_rows, places), request

    def _record(
        self,
        mechanisms: Sequence[str],
        destinations: "Sequence[Destination]",
        notes: Sequence[str],
        answers: Sequence[Answer],
    ) -> None:
        """Record what was worked out of a chunk: the maps of each reference of each of the mechanisms."""
        verdicts: list[Verdict] = []
        for to, answer in zip(destinations, answers, strict=True):
            own = _verdicts(to.located, answer.maps[0])
            for place, maps in zip(to.places, answer.maps, strict=True):
                self.recorder.add(place, to.placed.apply(maps, to.region), to.pair_rows, own)
            if to.placed.cells is not None and self.pair_maps != "off":
                self.note(NO_PAIRS)
            if not to.placed.exact:
                self.note(NEAREST)
            verdicts += own
        try:
            self._record_shares(destinations[0], answers, verdicts)
        except Exception as error:
            self._no_shares(error)
        matches = [to.located for to in destinations]
        self.recorder.captured(
            matches[0].layer.name,
            mechanisms,
            ComputedBy.of(answers[-1].maps[0]),
            verdicts,
            [*(match.note for match in matches if match.note), *notes],
            [remark for match in matches for remark in match.remarks],
        )

    def _no_shares(self, error: Exception) -> None:
        """Who shares the attention is not known of a call, which is beside the point: its maps are there."""
        log.warning("%s", NO_SHARES, exc_info=error)
        self.note(f"{NO_SHARES} ({type(error).__name__}: {error})")

    def _lost(self, error: Exception) -> None:
        """The maps of a call that waited could not be made."""
        log.warning("%s", UNREADABLE, exc_info=error)
        self.skip(Skip(f"{UNREADABLE} ({type(error).__name__}: {error})"))

    def _record_shares(self, first: "Destination", answers: Sequence[Answer], verdicts: Sequence[Verdict]) -> None:
        """Record whose part of the attention is how large, where references and the text compete in one softmax.

        Of conditionings that make the picture together, each counts as much as it does in it: shares of references have
        that weight already.
        """
        if (error := answers[0].error) is not None:
            raise error
        if (text := answers[0].share_beside) is None:
            return
        maps = [x for answer in answers for x in answer.maps]
        grid = first.located.layer.grid
        region, weight, shares = self._region(grid), None, None
        stacked = [x for x in maps if isinstance(x, StackedCall)]
        if isinstance(text, Part) and len(stacked) == len(maps) and first.placed.weight is None:
            shares = _stacked_shares(stacked, text.whole, grid, region)
        else:
            text = text.float()
            if (weight := first.placed.weight) is not None:
                weight = brought(weight, text.device).to(text)
                text, weight = text * weight, _means(weight, region)
            shares = _shares([alone(x) for x in maps], text, region)
        place = Place(self._one(first.located.layer), first.places[0].step, 0)
        self.recorder.shares(place, shares, verdicts, weight)

    def _one(self, layer: Layer) -> Layer:
        """The same layer, as one object for all calls."""
        return self._layers.setdefault(layer, layer)

    def _region(self, grid: TokenGrid) -> Tensor | None:
        """The inpainting mask on a layer's grid: ``[items, cells]``, True where the picture is painted."""
        if self.denoise_mask is None:
            return None
        if grid not in self._regions:
            self._regions[grid] = cells_of(self.denoise_mask, grid)
        return self._regions[grid]

    def _pair_rows(
        self, numbers: Sequence[int], layer: Layer, references: Sequence[TokenGroup], region: Tensor | None
    ) -> Tensor | None:
        """The positions whose pair maps are kept, of references by their numbers."""
        if self.pair_maps == "everywhere":
            rows = torch.arange(layer.grid.cells)
        elif self.pair_maps == "inpainting mask" and region is not None:
            rows = region.any(0).nonzero().flatten()
        else:
            return None
        if len(rows) == 0:
            return None
        sizes = zip(numbers, references, strict=True)
        fits = [self.recorder.pairs_fit(number, layer, len(rows), group.places) for number, group in sizes]
        return rows if all(fits) else None


@dataclass(frozen=True)
class Destination:
    """Where the maps of what one mechanism located in a chunk go. Without the call: its queries would live as long."""

    located: Located
    placed: Placed
    region: Tensor | None
    pair_rows: Tensor | None
    places: Sequence[Place]


def _needs_no_sums(call: AttentionCall, located: Sequence[LocatedIn]) -> bool:
    """Whether all that is read of a call is a reference whose tokens are all its keys: see ``attribute``."""
    matches = [match for one in located for match in one.by_mechanism.values()]
    return call.bias is None and all(
        len(match.references) == 1 and match.references[0].count == match.keys == call.k.shape[2] for match in matches
    )


def _verdicts(located: Located, maps: Maps) -> tuple[Verdict, ...]:
    """What is assumed of a call in which something was located; ``maps`` are of any of its references."""
    return located.verdicts if maps.holds is None else (*located.verdicts, Verdict(maps.holds, NOT_NUMBERS))


def _text_beside(call: AttentionCall, one: LocatedIn) -> Index | None:
    """The columns of the text that compete with references in one softmax, without those that references have in it.

    None of no text, or an unknown one; nor where maps are put together of parts of the picture, nor of a steered call:
    whose part of the attention is how large is not recorded of these.
    """
    text, matches = one.text, list(one.by_mechanism.values())
    joint = all(match.gain is None and match.keys == call.k.shape[2] for match in matches)
    of_a_part = one.chunk.placement.partial
    if text is None or text.keys != call.k.shape[2] or not joint or of_a_part or call.steering is not None:
        return None
    ours = [group.index for group in text.references]
    others = [group.index for match in matches for group in match.references]

    def columns() -> tuple[Index | None, list[Index]]:
        every = torch.arange(text.keys)
        own = torch.ones(text.keys, dtype=torch.bool)
        for index in others:
            own[index] = False
        of_text = torch.cat([every[index] for index in ours])
        return _neighbours(of_text[own[of_text]]), [*ours, *others]

    # Tensors are the same if they are one object: what is remembered has them, so that no other one takes their place.
    alike = [(x.start, x.stop, x.step) if isinstance(x, slice) else id(x) for x in (*ours, *others)]
    result: Index | None = call.model_call.once(("text beside", text.keys, len(ours), *alike), columns)[0]
    return result


def _neighbours(columns: Tensor) -> Index | None:
    """The same as a slice where they are neighbours: these are taken without a copy, and without waiting for a device.

    None of no column.
    """
    if len(columns) == 0:
        return None
    first, last = int(columns[0]), int(columns[-1])
    return slice(first, last + 1) if last - first == len(columns) - 1 else columns


def _shares(references: Sequence[Marginals], text: Tensor, region: Tensor | None) -> dict[ShareOwner, Tensor]:
    """Whose part of the attention is how large, of one call or of several: see ``_means``. ``text [items, N]``."""
    parts = [maps.r2g_share.mean(1) for maps in references]
    total = parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)
    return {"references": _means(total, region), "text": _means(text, region)}


def _stacked_shares(maps: Sequence[StackedCall], text: Tensor, grid: TokenGrid, region: Tensor | None) -> Values:
    """The same of one call, worked out for all that were made with it: ``text`` has the items of all."""
    calls = maps[0].stacked.calls
    of_all = None if region is None else region.repeat(calls, 1)
    return maps[0].once(("shares", grid), lambda _: _shares([x.stacked.maps for x in maps], text, of_all))


def _means(share: Tensor, region: Tensor | None) -> Tensor:
    """Of ``[items, N]`` over all positions and over those in a region ``[items, N]``; where it is empty, over all."""
    whole = share.mean(1)
    if region is None:
        return whole[:, None].expand(-1, 2)
    inside = brought(region, share.device)
    count = inside.sum(1)
    return torch.stack([whole, torch.where(count > 0, (share * inside).sum(1) / count.clamp(min=1), whole)], 1)


def _place(call: AttentionCall, layer: Layer, number: int, group: TokenGroup) -> Place:
    return Place(
        layer=layer,
        step=call.model_call.step,
        reference=number,
        evaluation=call.model_call.evaluation,
        reference_grid=group.grid,
    )


def _steered_total(
    call: AttentionCall, steering: Steering, interceptor: Interceptor, calls_made: Sequence[Arguments]
) -> Tensor | None:
    """The row log-sum-exp of a steered call, from those of the calls that were made of it: one for each part of it."""
    parts = steering.rows(call.shape, call.q.device)
    if any(len(rows.softmaxes) != 1 for rows in parts):
        return None
    made = [AttentionCall.read(call.model_call, arguments) for arguments in calls_made]
    totals = interceptor.totals([(x.q, x.k, x.scale, x.bias) for x in made])
    if totals is None:
        return None
    total = totals[0].new_empty(call.shape[:3])
    for rows, part in zip(parts, totals, strict=True):
        rows.put(part, total, axis=2)
    return total


@dataclass
class InterceptedKernel:
    """A kernel whose row log-sum-exp is intercepted while it runs."""

    kernel: Callable[[Arguments], Tensor]
    interceptor: Interceptor | None = None
    calls_made: list[Arguments] = field(default_factory=list)

    def __call__(self, arguments: Arguments) -> Tensor:
        if arguments.calls_made is not None:  # of another one that intercepts, around this
            self.calls_made = arguments.calls_made
        self.interceptor = interceptor = Interceptor()
        with Shortcut(interceptor) if _is_of_comfyui(arguments) else interceptor:
            return self.kernel(arguments._replace(calls_made=self.calls_made))

    def forget(self) -> None:
        """What was intercepted: calls that were made have this kernel, and all would live until Python collects rings.

        On a GPU these are the queries, keys and values of every call of a step: gigabytes.
        """
        self.interceptor, self.calls_made = None, []


def _is_of_comfyui(arguments: Arguments) -> bool:
    """Whether the kernel is ComfyUI's alone: what other packs call, and under which modes, nobody knows."""
    return arguments.override is None and getattr(arguments.function, "__module__", "") == ATTENTION
