"""HunyuanVideo and HunyuanVideo 1.5."""

from collections.abc import Iterator

from ..blocks import Block, ForeignModule, listed
from ..located import CallSite, ModelCall, Skip
from .base import Sequence, TokenOrder, other_lengths
from .wan import REFERENCE, frame_groups, video_grid


class HunyuanVideo(TokenOrder):
    """``R|video|T``, or ``T|R|video`` in newer ComfyUI cores; ``T`` is the text, and byt5 and SigLIP tokens beside it.

    comfy/ldm/hunyuan_video/model.py
    """

    family = "HunyuanVideo"

    def sequence(self, site: CallSite, call: ModelCall) -> Sequence | Skip:
        model, conditions = call.denoiser, call.conditions
        if len(model.patch_size) != 3 or len(call.x) != 5:
            return Skip(f"attention of a {type(model).__name__} for single pictures")
        if site.queries == site.keys == call.text:
            return Skip("a refiner of the text, before it meets the video", absent=True)
        grid = video_grid(call.x, model.patch_size)
        reference = conditions.get("ref_latent")
        references = [] if reference is None else [video_grid(reference.shape, model.patch_size)]
        before, texts = sum(x.cells for x in references), vision_tokens(call) + byt5_tokens(call) + call.text
        if not site.queries == site.keys == before + grid.cells + texts:
            return other_lengths(site, reference_frames=before, the_video=grid.cells, text_and_images=texts)
        first = 0 if video_first(call) else texts
        rows = slice(first + before, first + before + grid.cells)
        text = (rows.stop if video_first(call) else 0) + vision_tokens(call)
        byt5 = text + call.text
        if getattr(model, "cond_type_embedding", None) is not None:  # of 1.5, before the text; else behind it
            byt5, text = text, text + byt5_tokens(call)
        groups = [group for x in references for group in frame_groups(REFERENCE, first, x)]
        own, other = slice(text, text + call.text), (slice(byt5, byt5 + byt5_tokens(call)),)
        return Sequence(site.layer, grid, rows, rows, own, tuple(groups), other_text=other)

    def blocks(self, denoiser: ForeignModule, call: ModelCall) -> Iterator[Block]:
        refiner = getattr(getattr(denoiser, "txt_in", None), "individual_token_refiner", None)
        yield from listed(getattr(refiner, "blocks", None), "text refiner")
        yield from listed(denoiser.double_blocks, "double", "double_block")
        yield from listed(denoiser.single_blocks, "single", "single_block")


def video_first(call: ModelCall) -> bool:
    """Whether the video is before the text, by an attribute of ``DoubleStreamBlock`` (comfy/ldm/flux/layers.py)."""
    return bool(getattr(call.denoiser.double_blocks[0], "flipped_img_txt", False))


def vision_start(sequence: Sequence, call: ModelCall) -> int:
    """The column of the first image token: those of the image come before all others of ``T``."""
    return sequence.picture_span.stop if video_first(call) else 0


def vision_tokens(call: ModelCall) -> int:
    """How many tokens come from CLIP vision."""
    features = call.conditions.get("clip_fea")
    return 0 if features is None or getattr(call.denoiser, "vision_in", None) is None else features.shape[-2]


def byt5_tokens(call: ModelCall) -> int:
    """How many tokens come from byt5, which encodes text that is to be written in the picture."""
    features = call.conditions.get("txt_byt5")
    return 0 if features is None or getattr(call.denoiser, "byt5_in", None) is None else features.shape[-2]
