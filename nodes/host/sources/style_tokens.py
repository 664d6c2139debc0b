"""Tokens of a reference inside the text of joint attention: Flux Redux (StyleModelApply) and all that is tagged.

``StyleModelApply`` (nodes.py) appends the tokens of a style model to the text, and nothing says where they begin.
I2AM Tag Reference does; without it, there is a guess for Flux.1 alone, whose text has at least 256 tokens.
"""

import dataclasses

from ....i2am_core.tokens import TokenGrid, TokenGroup, span
from ..tags import tagged
from .base import CallSite, Chunk, ModelCall, Probe, Skip
from .sequences import sequence_of

SHORTEST_TEXT = 256  # T5XXLTokenizer pads to it (comfy/text_encoders/flux.py)
REDUX = TokenGrid(27, 27)  # patches that SigLIP-384 sees
GUESS = (
    "a guess: the last tokens of the conditioning are taken for those of Flux Redux, since their number fits. "
    "I2AM Tag Reference after the style node makes it sure"
)


class StyleTokens:
    name = "style tokens"

    def probe(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Probe | Skip | None:
        context = chunk.conditioning.get("cross_attn")
        if context is None or "UNetModel" in call.family:
            return None
        tokens = context.shape[1]
        groups, note = tagged(chunk.conditioning), ""
        if not groups:
            groups, note = _guessed(tokens, call), GUESS
        if not groups:
            return None
        if any(group.index.stop > tokens for group in groups):
            return Skip(f"reference tokens are tagged beyond the {tokens} tokens of the conditioning")
        sequence = sequence_of(site, call)
        if isinstance(sequence, Skip):
            return sequence
        padding = sequence.text.stop - sequence.text.start - tokens
        if padding and not (padding > 0 and _pads_on_the_left(call)):
            return Skip(f"a text of {tokens + padding} tokens, where the conditioning has {tokens}")
        first = sequence.text.start + padding
        references = tuple(
            dataclasses.replace(g, index=slice(g.index.start + first, g.index.stop + first)) for g in groups
        )
        return sequence.probe(site, references, note=note)


def _pads_on_the_left(call: ModelCall) -> bool:
    """``Flux2.extra_conds`` (comfy/model_base.py)."""
    return type(call.model).__name__ == "Flux2"


def _guessed(tokens: int, call: ModelCall) -> list[TokenGroup]:
    beyond = tokens - SHORTEST_TEXT
    if "Flux" not in call.family or _pads_on_the_left(call) or beyond <= 0 or beyond % REDUX.cells:
        return []
    starts = range(SHORTEST_TEXT, tokens, REDUX.cells)
    return [
        dataclasses.replace(span("style tokens (a guess)", start, REDUX), key=str(n)) for n, start in enumerate(starts)
    ]
