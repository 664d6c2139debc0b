"""Reference latents beside the picture in joint attention: ReferenceLatent, Flux Kontext, Flux.2, Qwen-Image-Edit.

They arrive as ``ref_latents`` in ``BaseModel.apply_model``, in the order of the references. HiDream-E1 gets one as
``image_cond``, which makes the latent wider; of an area, it gets no more than what is in that area of the reference.
"""

import dataclasses

from ..tags import fingerprint
from .base import CallSite, Chunk, ModelCall, Probe, Skip
from .sequences import sequence_of


class ReferenceLatents:
    name = "reference latents"

    def probe(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Probe | Skip | None:
        beside = call.conditions.get("image_cond") is not None
        if not (beside or call.conditions.get("ref_latents")):
            return None
        if beside and chunk.part is not None and chunk.part.cropped:
            return Skip("the conditioning's area cuts the reference that is beside the latent: not supported yet")
        sequence = sequence_of(site, call)
        if isinstance(sequence, Skip):
            return sequence
        if not sequence.references:
            return Skip(f"a {type(call.denoiser).__name__} was given reference latents, but has no place for them")
        keys = call.once(("keys of reference latents", chunk.rows.start), lambda: _keys(call, chunk))
        groups = zip(sequence.references, keys, strict=True)
        references = tuple(dataclasses.replace(group, key=key) for group, key in groups)
        return sequence.probe(site, references)


def _keys(call: ModelCall, chunk: Chunk) -> list[str]:
    """A hash of each latent: in conditionings that are combined, the first reference need not be the same."""
    beside = call.conditions.get("image_cond")
    latents = call.conditions.get("ref_latents") or [] if beside is None else [beside]
    return [fingerprint(latent[chunk.rows.start : chunk.rows.start + 1]) for latent in latents]
