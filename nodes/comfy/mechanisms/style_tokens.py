"""Tokens of a reference inside the text of joint attention: Flux Redux (StyleModelApply) and all that is tagged.

``StyleModelApply`` (nodes.py) appends the tokens of a style model to the text, and nothing says where they begin.
I2AM Tag Reference says it; without it, there is a guess for Flux.1 alone, whose text has at least 256 tokens.
Those that a language model makes of images are no style: ``images_in_text.py``.
"""

import dataclasses
from collections.abc import Sequence, Set

from comfy.model_base import BaseModel

from ....i2am_core.attribution import Reference
from ....i2am_core.tokens import TokenGrid, TokenGroup, span
from ..located import CallSite, Chunk, Given, Located, ModelCall, Skip
from ..tags import columns_of, guessed_grids, note_on_zeros, tagged
from ..token_orders import sequence_of
from .base import Documented, Mechanism

SHORTEST_TEXT = 256  # T5XXLTokenizer pads to it (comfy/text_encoders/flux.py)
REDUX = TokenGrid(27, 27)  # patches of SigLIP-384
OTHER_TEXTS = {"Flux2", "LongCatImage"}  # models of Flux's class whose text is a language model's
NO_TEXT = "attention that holds no text"
GUESS = (
    "a guess: the last tokens of the conditioning are taken for those of Flux Redux, since their number fits. "
    "I2AM Tag Reference after the style node makes it certain"
)


class StyleTokens(Mechanism):
    name = "style tokens"
    priority = 60
    documented = (
        Documented(
            users="Flux Redux: `StyleModelApply` (`multiply`, `attn_bias`), several in a chain, AdvancedReflux; "
            "with or without Fill",
            captured="joint attention of the picture to the tokens after the text",
            spatial="27x27 (Redux), 32x32; 13x13, 9x9, 6x6 and 5x5 are a **guess** (AdvancedReflux makes these of"
            " 27x27, and a mask may leave as many); else no",
            certainty="exact with *I2AM Tag Reference* after the style node; without it a **guess** for Flux.1, "
            "where the text is of the shortest length",
            limits="a longer prompt cannot be guessed; tokens that a mask has thinned out have no layout",
        ),
    )

    def may_be_read(self, role: str, call: ModelCall) -> bool:
        return "UNetModel" not in call.family

    def given(self, run: Given) -> list[Reference]:
        if {"UNetModel", "WanModel"} & run.family:
            return []
        references = []
        for conditioning in run.conditionings:
            context = conditioning.get("cross_attn")
            guessed = [] if context is None or tagged(conditioning) else _guessed(context.shape[1], run)
            references += [Reference.of(group) for group in (*tagged(conditioning, False), *guessed)]
        return references

    def is_in_use(self, chunk: Chunk, call: ModelCall) -> bool:
        if chunk.conditioning.get("cross_attn") is None or "UNetModel" in call.family:
            return False
        return bool(_groups(chunk, call))

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip:
        groups = _groups(chunk, call)
        if tagged(chunk.conditioning):
            return located_in_text(site, chunk, call, groups, guessed_grids(groups))
        located = located_in_text(site, chunk, call, groups, GUESS)
        return dataclasses.replace(located, guessed=True) if isinstance(located, Located) else located


def located_in_text(
    site: CallSite, chunk: Chunk, call: ModelCall, groups: Sequence[TokenGroup], note: str
) -> Located | Skip:
    """``groups`` of the conditioning's tokens, where joint attention has them."""
    context = chunk.conditioning["cross_attn"]
    tokens = context.shape[1]
    if any(columns_of(group).stop > tokens for group in groups):
        return Skip(f"reference tokens are tagged beyond the {tokens} tokens of the conditioning")
    sequence = sequence_of(site, call)
    if isinstance(sequence, Skip):
        return sequence
    if sequence.text.start == sequence.text.stop:
        return Skip(NO_TEXT, absent=True)
    padding = sequence.text.stop - sequence.text.start - tokens
    if padding and not (padding > 0 and _pads_on_the_left(call)):
        return Skip(f"a text of {tokens + padding} tokens, where the conditioning has {tokens}")
    references = tuple(_moved(group, sequence.text.start + padding) for group in groups)
    names = tuple(group.name for group in groups)
    zeros = call.once(("zeros", names, chunk.rows.start), lambda: note_on_zeros(context, groups))
    return sequence.located(site, references, note="; ".join(filter(None, (note, zeros))))


def _moved(group: TokenGroup, first: int) -> TokenGroup:
    """The group, in a text that begins at column ``first``."""
    columns = columns_of(group)
    return dataclasses.replace(group, index=slice(columns.start + first, columns.stop + first))


def takes_redux(model: BaseModel, family: Set[str]) -> bool:
    """Whether there is a style model for it: for Flux.1, whose text is T5's. Others of its class have another text."""
    return "Flux" in family and type(model).__name__ not in OTHER_TEXTS


def _pads_on_the_left(call: ModelCall | Given) -> bool:
    """``Flux2.extra_conds`` (comfy/model_base.py)."""
    return type(call.model).__name__ == "Flux2"


def _groups(chunk: Chunk, call: ModelCall) -> list[TokenGroup]:
    """The tokens of style images in a conditioning: those that are tagged, or a guess where nothing is."""

    def groups() -> list[TokenGroup]:
        if tagged(chunk.conditioning):
            return tagged(chunk.conditioning, False)
        return _guessed(chunk.conditioning["cross_attn"].shape[1], call)

    known: list[TokenGroup] = call.once(("style tokens", chunk.rows.start), groups)
    return known


def _guessed(tokens: int, call: ModelCall | Given) -> list[TokenGroup]:
    """The last of so many tokens of a conditioning, where what is beyond the shortest text is a multiple of Redux's."""
    beyond = tokens - SHORTEST_TEXT
    if not takes_redux(call.model, call.family) or beyond <= 0 or beyond % REDUX.cells:
        return []
    starts = range(SHORTEST_TEXT, tokens, REDUX.cells)
    return [
        dataclasses.replace(span("style tokens (a guess)", start, REDUX), key=str(n)) for n, start in enumerate(starts)
    ]
