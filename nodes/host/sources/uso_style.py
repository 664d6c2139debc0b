"""Style tokens that USO puts before the text of Flux (``USOStyleReference``, comfy_extras/nodes_model_patch.py).

Each is a learned mixture of all the patches that SigLIP saw, so they have no place in the reference.
"""

from .base import CallSite, Chunk, ModelCall, Probe, Skip
from .sequences import sequence_of, uso_styles


class UsoStyle:
    name = "USO style"

    def probe(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Probe | Skip | None:
        if not uso_styles(call):
            return None
        sequence = sequence_of(site, call)
        if isinstance(sequence, Skip):
            return sequence
        if not sequence.styles:
            return Skip(f"a {type(call.denoiser).__name__} was given a style by USO, but has no place for it")
        return sequence.probe(site, sequence.styles)
