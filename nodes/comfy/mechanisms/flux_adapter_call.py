"""Attention to an image's own tokens that a pack adds in a block of Flux: a softmax of its own, for the picture.

The queries are the tokens of the picture, with those of reference latents behind it and perhaps the text before it:
their number says which. By how much the pack multiplies what attention gives is measured, row by row: what it adds over
what attention gave it. Where the one is not a multiple of the other, the call is skipped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from ....i2am_core.attribution import Layer
from ....i2am_core.recording.recorder import Verdict
from ....i2am_core.tokens import TokenGrid, TokenGroup
from ..attention_call import Arguments
from ..located import CallSite, Chunk, Located, ModelCall, Off, Skip
from ..pending_call import Attend
from ..token_orders import order_of
from ..token_orders.base import count_of, latent_groups, patches
from ..token_orders.flux import Flux
from ..values import factor
from .base import Mechanism

NAME = "Flux adapters"
NOT_APPLIED = "its node does not apply it then (see its start and end)"
NO_MULTIPLE = "an adapter that does more with its attention than to weight and mask it"
UNOBSERVED = "an adapter of Flux of a kind that I2AM cannot capture: maps of it are missing"
OTHER_MODEL = "an adapter in a {}, whose order of tokens I2AM does not know"
OTHER_LENGTHS = (
    "attention of {} tokens to an adapter, which are not the {} of the picture and {} of reference latents, with the "
    "{} of the text or without"
)
OTHER_TOKENS = "attention to {} tokens, where the adapter has {}"


class AdapterMechanism(Mechanism):
    """What all calls of an adapter have in common."""

    name = NAME
    priority = 45
    is_beside = True


@dataclass
class AdapterCall(AdapterMechanism):
    """One call of an adapter's attention, to the tokens of its ``group``: ``output`` is what attention gave.

    ``result`` is what the pack has made of that, of the same shape ``[B, N, C]``: None where that is not known.
    ``verdicts`` are what was assumed of the pack's arithmetic.
    """

    group: TokenGroup
    output: Tensor | None = None
    result: Tensor | None = None
    verdicts: tuple[Verdict, ...] = ()

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip:
        place = picture_among(site.queries, call)
        if isinstance(place, Skip):
            return place
        if site.keys != self.group.count:
            return Skip(OTHER_TOKENS.format(site.keys, self.group.count))
        grid, picture = place
        located = Located(Layer(site.layer, grid, site.heads), picture, site.keys, (self.group,))
        return replace(located, completed=lambda: self._with_gain(located, chunk, picture))

    def _with_gain(self, located: Located, chunk: Chunk, picture: slice) -> Located | Skip:
        """With the factor by which the pack has multiplied its attention."""
        if self.output is None or self.result is None or self.output.shape != self.result.shape:
            return Skip(UNOBSERVED)
        gain, is_multiple = factor(self.output[chunk.rows], self.result[chunk.rows])
        verdicts = (*self.verdicts, Verdict(is_multiple, NO_MULTIPLE))
        return replace(located, gain=gain[:, picture], verdicts=verdicts, completed=None)


class OffAdapter(AdapterMechanism):
    """Of an adapter that is off, for a ``reason``."""

    is_off = True

    def __init__(self, group: TokenGroup, reason: str) -> None:
        self.group, self.reason = group, reason

    def off(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Off | None:
        place = picture_among(site.queries, call)
        if isinstance(place, Skip):
            return None
        return Off(Layer(site.layer, place[0], site.heads), (self.group,), self.reason)


class SkippedAdapter(AdapterMechanism):
    """Of an adapter of which nothing is known but the reason why."""

    def __init__(self, reason: str, absent: bool = False) -> None:
        self.reason, self.absent = reason, absent

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Skip:
        return Skip(self.reason, self.absent)


def picture_among(queries: int, call: ModelCall) -> tuple[TokenGrid, slice] | Skip:
    """The grid of the picture, and where it is among so many tokens."""
    order = order_of(call.family)
    if not isinstance(order, Flux):
        return Skip(OTHER_MODEL.format(type(call.denoiser).__name__))
    patch = call.denoiser.patch_size
    grid = patches(call.x, patch)
    latents = call.conditions.get("ref_latents") if order.takes_latents else None
    references = count_of(latent_groups(latents, grid.cells, patch))
    start = queries - grid.cells - references
    if start not in (0, call.text):
        return Skip(OTHER_LENGTHS.format(queries, grid.cells, references, call.text))
    return grid, slice(start, start + grid.cells)


def group_of(names: Sequence[str], number: int, tokens: int) -> TokenGroup:
    """The tokens of one of several adapters, whose names may be the same. They have no place in an image."""
    name = names[number]
    if names.count(name) > 1:
        name = f"{name} {names[: number + 1].count(name)}"
    return TokenGroup(name, slice(0, tokens), tokens, None, str(number))


def report(attend: Attend, options: Mapping[str, Any], mechanism: AdapterMechanism, tokens: Tensor, heads: int) -> None:
    """Go through the engine with nothing to compute: ``tokens [B, N, C]`` would be the queries."""
    q = tokens.new_empty(*tokens.shape[:2], heads)
    pending_call = attend(Arguments(_nothing, (q, q, q, heads), {}), options, mechanism)
    pending_call.run()
    pending_call.end()


def _nothing(arguments: Arguments) -> Tensor:
    q: Tensor = arguments.args[0]
    return q
