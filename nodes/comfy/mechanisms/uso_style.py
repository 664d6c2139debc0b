"""Style tokens that USO puts before the text of Flux (``USOStyleReference``, comfy_extras/nodes_model_patch.py).

Each is a learned mixture of all patches of SigLIP, so they have no place in the reference.
"""

from ....i2am_core.attribution import Reference
from ..located import CallSite, Chunk, Given, Located, ModelCall, Skip
from ..token_orders import sequence_of
from ..token_orders.base import uso_styles
from .base import Documented, Mechanism


class UsoStyle(Mechanism):
    name = "USO style"
    priority = 40
    documented = (
        Documented(
            users="`USOStyleReference`",
            captured="joint attention of the picture to the style tokens before the text; its subject is a "
            "reference latent",
            spatial="no: each is a mixture of all patches",
            certainty="exact",
            limits="ComfyUI runs it for one row a call only",
        ),
    )

    def may_be_read(self, role: str, call: ModelCall) -> bool:
        return "UNetModel" not in call.family

    def given(self, run: Given) -> list[Reference]:
        return [Reference.of(group) for group in uso_styles(run)]

    def is_in_use(self, chunk: Chunk, call: ModelCall) -> bool:
        return bool(uso_styles(call))

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip:
        sequence = sequence_of(site, call)
        if isinstance(sequence, Skip):
            return sequence
        if not sequence.styles:
            return Skip(f"a {type(call.denoiser).__name__} was given a style by USO, but has no place for it")
        return sequence.located(site, sequence.styles)
