"""HunyuanVideo 1.5: tokens of SigLIP of the first frame in joint attention, beside those of the text."""

from ....i2am_core.tokens import TokenGrid, span
from .base import CallSite, Chunk, ModelCall, Probe, Skip
from .sequences import sequence_of
from .video_sequences import vision_start, vision_tokens


class VisionTokens:
    name = "vision tokens"

    def probe(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Probe | Skip | None:
        if "HunyuanVideo" not in call.family or not (count := vision_tokens(call)):
            return None
        sequence = sequence_of(site, call)
        if isinstance(sequence, Skip):
            return sequence
        side = round(count**0.5)
        grid = TokenGrid(side, side) if side * side == count else None
        group = span("start image", vision_start(sequence, call), grid, count)
        return sequence.probe(site, (group,))
