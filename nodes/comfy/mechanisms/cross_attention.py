"""U-Net cross-attention (attn2) whose context holds tokens of a reference image.

Context and layout: ``BasicTransformerBlock.forward`` in ComfyUI's comfy/ldm/modules/attention.py. Where
the conditionings of one batch differ in length, ``CONDCrossAttn.concat`` (comfy/conds.py) repeats the shorter
one. Every column is then there equally often, so the softmax over one copy is the softmax over all, with equal columns
added up: only the first copy is read.
"""

from collections.abc import Sequence

from torch import Tensor

from ....i2am_core.attribution import Layer, Reference
from ....i2am_core.tokens import TokenGroup
from ..callers import one_of, patches_of_packs
from ..located import CallSite, Chunk, Given, Located, ModelCall, Skip
from ..tags import columns_of, guessed_grids, note_on_zeros, tagged, tagged_references
from ..values import notes_on
from .base import NOT_THE_FEATURE_MAP, Documented, Mechanism


class CrossAttention(Mechanism):
    name = "cross-attention tokens"
    priority = 80
    documented = (
        Documented(
            users="U-Net conditionings whose tokens are tagged (*I2AM Tag Reference*, *I2AM Demo Reference*)",
            captured="cross-attention (attn2)",
            spatial="as tagged",
            certainty="exact",
        ),
    )

    def may_be_read(self, role: str, call: ModelCall) -> bool:
        return "UNetModel" in call.family and role != "attn1"

    def beside_adapters(self) -> Mechanism:
        return _BesideAdapters()

    def given(self, run: Given) -> list[Reference]:
        return tagged_references(run) if "UNetModel" in run.family else []

    def is_in_use(self, chunk: Chunk, call: ModelCall) -> bool:
        return "UNetModel" in call.family

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip | None:
        if site.role == "attn1":
            return Skip("self-attention: it holds no reference tokens", absent=True)
        if site.role != "attn2":
            return Skip("attention that ComfyUI does not announce as attn1 or attn2: it may hold the reference")
        if site.changed:
            return Skip(why_changed(call))
        references = call.once(("tagged references", chunk.rows.start), lambda: tuple(tagged(chunk.conditioning)))
        if not references:
            return Skip("cross-attention whose conditioning holds no tagged reference tokens", absent=True)
        context = chunk.conditioning.get("cross_attn")
        tokens = 0 if context is None else context.shape[1]
        if context is None or tokens == 0 or site.keys % tokens:
            return Skip(f"cross-attention over {site.keys} tokens, where the conditioning has {tokens}")
        if any(columns_of(group).stop > tokens for group in references):
            return Skip(f"reference tokens are tagged beyond the {tokens} tokens of the conditioning")
        if site.grid is None or site.grid.cells != site.queries:
            return Skip(why_other_queries(site, call))
        note = call.once(("note on tagged references", chunk.rows.start), lambda: _note(context, references))
        if site.values is not None:
            before, after = (x[chunk.rows] for x in site.values)
            note = "; ".join(filter(None, (note, *notes_on(before, after, references))))
        return Located(Layer(site.layer, site.grid, site.heads), slice(None), tokens, references, note=note)


def _note(context: Tensor, references: Sequence[TokenGroup]) -> str:
    """What there is to say of the references in the tokens of a conditioning, ``[B, tokens, C]``."""
    tokens = context.shape[1]
    untagged = tokens - sum(group.count for group in references)
    beside = f"{untagged} of {tokens} tokens of the conditioning are untagged: they compete for attention"
    notes = guessed_grids(references), beside if untagged else "", note_on_zeros(context, references)
    return "; ".join(filter(None, notes))


def why_changed(call: ModelCall) -> str:
    """Of cross-attention whose tokens are others behind the patches of packs than before."""
    changing = patches_of_packs(call.options, "attn2_patch")
    by = one_of(changing) if changing else "another pack"
    return f"cross-attention whose tokens {by} has changed: whether these are the conditioning's is not known"


def why_other_queries(site: CallSite, call: ModelCall) -> str:
    """Of cross-attention whose queries are not the cells of the feature map."""
    changing = patches_of_packs(call.options, "attn2_patch")
    by = f": it may be that {one_of(changing)} has changed them" if changing else ""
    return NOT_THE_FEATURE_MAP.format(site.queries, site.grid) + by


class _BesideAdapters(CrossAttention):
    """Of a conditioning without tagged tokens there is nothing to say: the attention is to the text."""

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip | None:
        return super().locate(site, chunk, call) if tagged(chunk.conditioning) else None
