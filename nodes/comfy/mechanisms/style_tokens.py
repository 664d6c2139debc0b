"""Tokens of a reference inside the text of joint attention: Flux Redux (StyleModelApply) and all that is tagged.

``StyleModelApply`` (nodes.py) appends the tokens of a style model to the text, and nothing says where they begin.
I2AM Tag Reference says it; without it, there is a guess for Flux.1 alone, whose text has at least 256 tokens.
So it is with the tokens that a language model makes of images (``images_in_text.py``), but for the guess.
"""

import dataclasses
from collections.abc import Set

from comfy.model_base import BaseModel

from ....i2am_core.attribution import Reference
from ....i2am_core.tokens import TokenGrid, TokenGroup, span
from ..located import CallSite, Chunk, Given, Located, ModelCall, Skip
from ..tags import columns_of, guessed_grids, note_on_zeros, read_by_the_words, tagged
from ..token_orders import sequence_of
from .base import Documented, Mechanism

SHORTEST_TEXT = 256  # T5XXLTokenizer pads to it (comfy/text_encoders/flux.py)
REDUX = TokenGrid(27, 27)  # patches of SigLIP-384
OTHER_TEXTS = {"Flux2", "LongCatImage"}  # models of Flux's class whose text is a language model's
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
        Documented(
            name="style tokens (images in the text)",
            users="Qwen-Image-Edit, LongCat-Image-Edit: `TextEncodeQwenImageEdit`, `TextEncodeQwenImageEditPlus`, with"
            " *I2AM Tag Reference* behind, given the same clip and images",
            captured="joint attention of the picture to the tokens that the language model makes of each image; the"
            " same image as a reference latent is another reference",
            spatial="each on its own grid, of 28 px of the image that the language model gets",
            certainty="exact; where they are is proved by encoding the images again",
            limits="these tokens are mixed already: the language model has read the images before one, and the words"
            " behind have read it, what they hold of it is counted as text. Where images are that"
            " a pack's own node encodes cannot be proved",
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
            groups = tagged(conditioning) or ([] if context is None else _guessed(context.shape[1], run))
            references += [Reference.of(group) for group in groups]
        return references

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip | None:
        context = chunk.conditioning.get("cross_attn")
        if context is None or "UNetModel" in call.family:
            return None
        tokens = context.shape[1]
        groups, guessed = tagged(chunk.conditioning), False
        if not groups:
            groups, guessed = _guessed(tokens, call), True
        if not groups:
            return None
        if any(columns_of(group).stop > tokens for group in groups):
            return Skip(f"reference tokens are tagged beyond the {tokens} tokens of the conditioning")
        sequence = sequence_of(site, call)
        if isinstance(sequence, Skip):
            return sequence
        padding = sequence.text.stop - sequence.text.start - tokens
        if padding and not (padding > 0 and _pads_on_the_left(call)):
            return Skip(f"a text of {tokens + padding} tokens, where the conditioning has {tokens}")
        first = sequence.text.start + padding
        references = tuple(_moved(group, first) for group in groups)
        zeros = call.once(("zeros", chunk.rows.start), lambda: note_on_zeros(context, groups))
        notes = [GUESS if guessed else guessed_grids(references), zeros, read_by_the_words(chunk.conditioning)]
        located = sequence.located(site, references, note="; ".join(filter(None, notes)))
        return dataclasses.replace(located, guessed=guessed)


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


def _guessed(tokens: int, call: ModelCall | Given) -> list[TokenGroup]:
    """The last of so many tokens of a conditioning, where what is beyond the shortest text is a multiple of Redux's."""
    beyond = tokens - SHORTEST_TEXT
    if not takes_redux(call.model, call.family) or beyond <= 0 or beyond % REDUX.cells:
        return []
    starts = range(SHORTEST_TEXT, tokens, REDUX.cells)
    return [
        dataclasses.replace(span("style tokens (a guess)", start, REDUX), key=str(n)) for n, start in enumerate(starts)
    ]
