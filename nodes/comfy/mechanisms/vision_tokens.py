"""HunyuanVideo 1.5: tokens of SigLIP of the first frame in joint attention, beside those of the text."""

from ....i2am_core.tokens import TokenGrid, span
from ..located import CallSite, Chunk, Located, ModelCall, Skip
from ..token_orders import sequence_of
from ..token_orders.hunyuan_video import vision_start, vision_tokens
from .base import Documented, Mechanism

GRIDS = {grid.cells: grid for grid in (TokenGrid(27, 27), TokenGrid(32, 32))}
"""Patches of SigLIP-384 and -512, whose last hidden state is taken whole (``HunyuanVideo15.extra_conds``, ComfyUI's
comfy/model_base.py): no mask leaves any out, and there is no class token. Of other numbers nobody says what they are.
"""


class VisionTokens(Mechanism):
    name = "vision tokens"
    priority = 10
    documented = (
        Documented(
            users="HunyuanVideo 1.5 I2V",
            captured="joint attention of the video to SigLIP's tokens",
            spatial="27x27",
            certainty="exact",
        ),
    )

    def may_be_read(self, role: str, call: ModelCall) -> bool:
        return "UNetModel" not in call.family

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip | None:
        if "HunyuanVideo" not in call.family or not (count := vision_tokens(call)):
            return None
        sequence = sequence_of(site, call)
        if isinstance(sequence, Skip):
            return sequence
        grid = GRIDS.get(count)
        group = span("start image", vision_start(sequence, call), grid, count)
        return sequence.located(site, (group,))
