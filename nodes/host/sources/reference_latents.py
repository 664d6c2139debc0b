"""Reference latents beside the picture in joint attention: ReferenceLatent, Flux Kontext, Flux.2, Qwen-Image-Edit.

They arrive as ``ref_latents`` in ``BaseModel.apply_model``, in the order of the references. HiDream-E1 gets one as
``image_cond``, which makes the latent wider; of an area, it gets no more than what is in that area of the reference.
"""

from ....i2am_core.attribution import Layer
from .base import CallSite, Chunk, ModelCall, Probe, Skip
from .sequences import sequence_of


class ReferenceLatents:
    name = "reference latents"

    def probe(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Probe | Skip | None:
        beside = call.conditions.get("image_cond") is not None
        if not (beside or call.conditions.get("ref_latents")):
            return None
        if beside and "area" in chunk.conditioning:
            return Skip("the conditioning's area cuts the reference that is beside the latent: not supported yet")
        sequence = sequence_of(site, call)
        if isinstance(sequence, Skip):
            return sequence
        if not sequence.references:
            return Skip(f"a {type(call.denoiser).__name__} was given reference latents, but has no place for them")
        layer = Layer(sequence.layer, sequence.grid, site.heads)
        return Probe(layer, sequence.queries, slice(0, site.keys), sequence.references)
