"""Reference latents beside the picture in joint attention: ReferenceLatent, Flux Kontext, Flux.2, Qwen-Image-Edit.

They arrive as ``ref_latents`` in ``BaseModel.apply_model``, in the order of the references. HiDream-E1 gets one as
``image_cond``, which makes the latent wider; of an area, it gets no more than what is in that area of the reference.
HiDream-O1, which paints pixels, gets those of its images as ``ref_patches``.
"""

import dataclasses

from torch import Tensor

from ....i2am_core.attribution import Reference
from ....i2am_core.tokens import TokenGroup
from ..located import CallSite, Chunk, Given, Located, ModelCall, Skip
from ..tags import fingerprint
from ..token_orders import order_of, sequence_of
from ..token_orders.base import NO_PLACE, handed_over
from .base import Documented, Mechanism


class ReferenceLatents(Mechanism):
    name = "reference latents"
    priority = 70
    documented = (
        Documented(
            users="Flux Kontext, Flux.2, Qwen-Image-Edit, OmniGen2: `ReferenceLatent`, `TextEncodeQwenImageEditPlus`",
            captured="joint attention of the picture to each latent, in all layers; several references stay apart",
            spatial="each on its own grid",
            certainty="exact",
            limits="OmniGen2's refiners are skipped: there, references are not yet beside the picture. The tokens that"
            " Qwen's language model makes of the images are in the text: see images in the text",
        ),
        Documented(
            users="LongCat-Image-Edit, Qwen-Image-Layered (its layers are frames of the picture): `ReferenceLatent`",
            captured="the same",
            spatial="each on its own grid",
            certainty="exact",
            limits="the tokens that the language model makes of the image are in the text: see images in the text",
        ),
        Documented(
            users="Z-Image Omni: `TextEncodeZImageOmni` with a VAE, `ReferenceLatent`",
            captured="the same, and in the refiner of latents, where references and the picture are without the text",
            spatial="each on its own grid",
            certainty="exact",
            limits="what SigLIP sees of the same image is another reference: see vision tokens",
        ),
        Documented(
            users="Krea 2, Boogu, JoyImage-Edit, Mage-Flow-Edit: `ReferenceLatent`, `TextEncodeBooguEdit`,"
            " `TextEncodeJoyImageEdit`, `TextEncodeMageFlowEdit`",
            captured="the same; in Boogu's double blocks also attention without the text, as layers of their own",
            spatial="each on its own grid",
            certainty="exact",
            limits="Krea 2 reads them only with a method (`FluxKontextMultiReferenceLatentMethod`), which is said. The"
            " tokens that the language model makes of the images are part of the text",
        ),
        Documented(
            users="HiDream-O1: `HiDreamO1ReferenceImages`",
            captured="attention of the picture to the patches of each image, which the model reads as pixels",
            spatial="each on its own grid of 32x32 pixels",
            certainty="exact",
            limits="the model cuts each image to whole tokens, around its middle; they are in the text once more: see"
            " vision tokens",
        ),
        Documented(
            users="MiniMax H3: `MiniMaxH3ReferenceToVideo`, `MiniMaxH3AddGuide`, `MiniMaxH3ImageToVideo`",
            captured="attention of the video to the images, videos and guide frames before it",
            spatial="each on its own grid, videos of several frames",
            certainty="exact",
            limits="maps are of the video, not of the sound, and sounds are no references. The tokens that the language"
            " model makes of the images are part of the text",
        ),
        Documented(
            users="HiDream-E1: `InstructPixToPixConditioning`",
            captured="the same; the reference is to the right in each row of tokens",
            spatial="yes",
            certainty="exact",
            limits="an odd width is refused (one token holds both); so is a conditioning with an area",
        ),
    )

    def may_be_read(self, role: str, call: ModelCall) -> bool:
        return "UNetModel" not in call.family

    def given(self, run: Given) -> list[Reference]:
        """Those beside the picture; of each latent in a batch, the first item's."""
        order = order_of(run.family)
        given = [] if order is None else [order.references(run.denoiser, handed_over(c)) for c in run.conditionings]
        return [
            Reference.of(dataclasses.replace(group, key=_key(latent[:1])))
            for of_conditioning in given
            for group, latent in of_conditioning
        ]

    def is_in_use(self, chunk: Chunk, call: ModelCall) -> bool:
        known = call.conditions.get("ref_latents") or "ref_patches" in call.conditions
        return bool(known or call.conditions.get("image_cond") is not None or _given(call))

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip:
        beside = call.conditions.get("image_cond") is not None
        if beside and chunk.placement.partial:
            return Skip("the conditioning's area cuts the reference that is beside the latent: not supported yet")
        sequence = sequence_of(site, call)
        if isinstance(sequence, Skip):
            return sequence
        if not sequence.references:
            order = order_of(call.family)
            why = order and order.why_latents_are_unread(call.denoiser, call.conditions)
            return Skip(f"a {type(call.denoiser).__name__} was given reference latents, but {why or NO_PLACE}")
        keys = call.once(("keys of reference latents", chunk.rows.start), lambda: _keys(call, chunk))
        groups = zip(sequence.references, keys, strict=True)
        references = tuple(dataclasses.replace(group, key=key) for group, key in groups)
        return sequence.located(site, references)


def _key(latent: Tensor) -> str:
    """A hash of an item's latent: in conditionings that are combined, the first reference need not be the same."""
    return fingerprint(latent)


def _given(call: ModelCall) -> list[tuple[TokenGroup, Tensor]]:
    """Those that the model reads, of its own order."""
    order = order_of(call.family)
    known: list[tuple[TokenGroup, Tensor]] = call.once(
        "reference latents", lambda: [] if order is None else order.references(call.denoiser, call.conditions)
    )
    return known


def _keys(call: ModelCall, chunk: Chunk) -> list[str]:
    beside = call.conditions.get("image_cond")
    latents = [beside] if beside is not None else [latent for _, latent in _given(call)]
    return [_key(latent[chunk.rows.start : chunk.rows.start + 1]) for latent in latents]
