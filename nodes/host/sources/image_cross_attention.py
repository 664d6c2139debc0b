"""Wan's attention to the image: CLIP tokens of the first frame, or of first and last, in a softmax of their own.

``WanI2VCrossAttention`` (comfy/ldm/wan/model.py) adds its output to that of the attention to the text, so the shares
are those of the image tokens alone. Each image has 257 tokens: a class token, which has no place in the image and only
competes for attention, and 16 x 16 patches of the square that CLIP saw.
"""

from ....i2am_core.attribution import Layer
from ....i2am_core.tokens import TokenGrid, span
from .base import CallSite, Chunk, ModelCall, Probe, Skip
from .sequences import other_lengths
from .video_sequences import video_grid, wan_call

PATCHES = TokenGrid(16, 16)
TOKENS = 1 + PATCHES.cells


class ImageCrossAttention:
    name = "image cross-attention"

    def probe(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Probe | Skip | None:
        features = call.conditions.get("clip_fea")
        if features is None or "WanModel" not in call.family or getattr(call.denoiser, "img_emb", None) is None:
            return None
        found = wan_call(site, call)
        if isinstance(found, Skip):
            return found
        layer, asked = found
        if asked != "image":
            return Skip("self-attention of the video" if asked == "self" else "attention of the video to the text")
        grid, tokens = video_grid(call.x, call.denoiser.patch_size), features.shape[-2]
        positions = getattr(call.denoiser.img_emb, "emb_pos", None)
        if site.keys != tokens or site.queries != grid.cells or (positions is not None and positions.shape[1] < tokens):
            return other_lengths(site, the_video=grid.cells, images=tokens)
        if tokens not in (TOKENS, 2 * TOKENS):
            return Skip(f"attention to {tokens} image tokens, where CLIP vision gives {TOKENS} for each image")
        groups = [span(name, 1 + n * TOKENS, PATCHES) for n, name in enumerate(_names(call, tokens // TOKENS))]
        note = "the class token of CLIP vision has no place in the image: it competes for the attention to the image"
        return Probe(Layer(layer, grid, site.heads), slice(None), slice(0, tokens), tuple(groups), note=note)


def _names(call: ModelCall, images: int) -> list[str]:
    if images == 2:
        return ["start image", "end image"]
    if "AnimateWanModel" in call.family:
        return ["reference image"]
    return ["start image" if call.denoiser.img_emb.emb_pos is None else "start or end image"]
