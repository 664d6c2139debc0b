"""Tokens of SigLIP beside those of the text in joint attention: HunyuanVideo 1.5's first frame, Z-Image's images."""

import dataclasses

from ....i2am_core.tokens import TokenGrid, span
from ..located import CallSite, Chunk, Located, ModelCall, Skip
from ..tags import fingerprint
from ..token_orders import sequence_of
from ..token_orders.base import REFINER
from ..token_orders.hunyuan_video import vision_start, vision_tokens
from ..token_orders.lumina import siglip_groups
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
        Documented(
            users="Z-Image Omni: `TextEncodeZImageOmni` with an image encoder and a VAE",
            captured="joint attention to SigLIP's tokens of each image; its latent is another reference",
            spatial="each on SigLIP's own grid",
            certainty="exact",
            limits="in a refiner of their own, the tokens of all images have seen each other before. Without a VAE the"
            " model reads none of them",
        ),
    )

    def may_be_read(self, role: str, call: ModelCall) -> bool:
        return "UNetModel" not in call.family

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip | None:
        if "NextDiT" in call.family:
            return _in_z_image(site, chunk, call)
        if "HunyuanVideo" not in call.family or not (count := vision_tokens(call)):
            return None
        sequence = sequence_of(site, call)
        if isinstance(sequence, Skip):
            return sequence
        grid = GRIDS.get(count)
        group = span("start image", vision_start(sequence, call), grid, count)
        return sequence.located(site, (group,))


def _in_z_image(site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip | None:
    groups = siglip_groups(call)
    if not groups:
        return None
    sequence = sequence_of(site, call)
    if isinstance(sequence, Skip):
        return sequence
    if not len(sequence.all_text):  # a refiner of latents and picture
        return Skip(REFINER, absent=True)
    features, first = call.conditions["siglip_feats"], slice(chunk.rows.start, chunk.rows.start + 1)
    keys = call.once(("SigLIP", chunk.rows.start), lambda: [fingerprint(x[first]) for x in features])
    return sequence.located(site, tuple(dataclasses.replace(g, key=k) for g, k in zip(groups, keys, strict=False)))
