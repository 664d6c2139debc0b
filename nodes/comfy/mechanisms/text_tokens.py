"""The text, which is no reference: where it is in an attention call. For measuring what it caused.

It is not among the mechanisms that a user can choose; of it only its part of the attention is recorded.
"""

import torch

from ....i2am_core.attribution import Layer
from ....i2am_core.tokens import TokenGroup
from ..located import CallSite, Chunk, Located, ModelCall, Skip
from ..tags import columns_of, tagged
from ..token_orders import sequence_of
from ..token_orders.ltxv import SOUND_TEXT
from ..token_orders.wan import OTHER_ROLES, role_of, video_grid
from .base import NOT_THE_FEATURE_MAP, Mechanism
from .cross_attention import why_changed
from .style_tokens import NO_TEXT

NAME = "text"
ONE_CELL = (1, 1, 1)  # a token of LTXV


class TextTokens(Mechanism):
    """The columns of the conditioning's text: what references have of these is theirs, see ``TakeAway``."""

    name = NAME
    priority = 0
    documented = ()
    of_text = True

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip | None:
        if "UNetModel" in call.family:
            return _in_unet(site, chunk, call)
        if call.family & {"WanModel", "LTXVModel"}:
            role = role_of(site, call)
            if role not in ("text", SOUND_TEXT):
                return Skip(OTHER_ROLES.get(role, "self-attention of the video"), absent=bool(role))
            patch = call.denoiser.patch_size if "WanModel" in call.family else ONE_CELL
            layer = Layer(site.layer, video_grid(call.x, patch), site.heads)
            own = TokenGroup(NAME, slice(0, site.keys), site.keys)
            if role == SOUND_TEXT:
                return Located(layer, slice(0, 0), site.keys, (own,), of_others=True)
            return Located(layer, slice(None), site.keys, (own,))
        sequence = sequence_of(site, call)
        if isinstance(sequence, Skip):
            return sequence
        places = tuple((text.start, text.stop) for text in (sequence.text, *sequence.other_text))
        text = call.once(("columns of the text", places), lambda: sequence.all_text)
        if len(text) == 0:
            return Skip(NO_TEXT, absent=True)
        return sequence.located(site, (TokenGroup(NAME, text, len(text)),))


def _in_unet(site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip:
    if site.role == "attn1":
        return Skip(NO_TEXT, absent=True)
    if site.role != "attn2":
        return Skip("attention that ComfyUI does not announce as attn1 or attn2: it may hold the text")
    if site.changed:
        return Skip(why_changed(call))
    if site.grid is None or site.grid.cells != site.queries:
        return Skip(NOT_THE_FEATURE_MAP.format(site.queries, site.grid))
    context = chunk.conditioning.get("cross_attn")
    tokens = 0 if context is None else context.shape[1]
    if tokens == 0 or site.keys % tokens:  # where it is shorter than others of the batch, ComfyUI repeats it
        return Skip(f"cross-attention over {site.keys} tokens, where the conditioning has {tokens}")
    group = call.once(("text of a conditioning", chunk.rows.start), lambda: _untagged(chunk, tokens))
    if group.count == 0:
        return Skip(NO_TEXT, absent=True)
    return Located(Layer(site.layer, site.grid, site.heads), slice(None), tokens, (group,))


def _untagged(chunk: Chunk, tokens: int) -> TokenGroup:
    """Of the tokens of a conditioning those that are text; of the tagged ones another mechanism is asked."""
    text = torch.ones(tokens, dtype=torch.bool)
    for group in tagged(chunk.conditioning):
        text[columns_of(group)] = False
    columns = text.nonzero().flatten()
    return TokenGroup(NAME, columns, len(columns))
