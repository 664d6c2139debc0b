"""Tokens of an image among those of the text: nothing in a conditioning says that they are there, so it is offered.

``StyleModelApply`` (nodes.py) appends tokens to a text of any length, and so do packs. ``PhotoMakerEncode`` puts an
image into one token of a text. Encoders of the text that are language models with eyes take an image and give text.
Models of U-Nets that take no text at all, such as Stable Video Diffusion, have one token of an image in its place.
"""

from collections.abc import Iterator

from ...i2am_core.given import GivenReference
from .ended_run import Conditioning, EndedRun
from .mechanisms.style_tokens import SHORTEST_TEXT, takes_redux
from .tags import tagged

STYLE = "tokens of a style model (Flux Redux), among the {} of the text"
STYLE_REASON = "a prompt that is not long has {}: there is a longer one, or a style model has added its tokens"
TAG = "If Apply Style Model is used, place I2AM Tag Reference after it"
CLIP_TEXT = 77  # tokens of a text of CLIP, or a multiple of it (comfy/sd1_clip.py)
APPENDED = "tokens of an image, among the {} of the text"
APPENDED_REASON = f"texts of CLIP have a multiple of {CLIP_TEXT}: a node has added the others, or it is no text of CLIP"
TAG_APPENDED = "If a node has added tokens of an image to the text, place I2AM Tag Reference after it"
LONE = "an image through CLIP vision, in the place of the text"
LONE_REASON = "as the only token of its attention: the weight of one token is always 1, so that no map can be made"
TEXT_NODES = {  # class of the denoiser, or of the model -> the node whose image may be in its text
    "QwenImageTransformer2DModel": "TextEncodeQwenImageEdit",
    "BooguTransformer2DModel": "TextEncodeBooguEdit",
    "JoyImageTransformer3DModel": "TextEncodeJoyImageEdit",
    "MageFlowTransformer2DModel": "TextEncodeMageFlowEdit",
    "LongCatImage": "TextEncodeQwenImageEdit",
    "HunyuanVideo": "TextEncodeHunyuanVideo_ImageToVideo",
    "SDXL": "PhotoMakerEncode",
}
IN_TEXT = "tokens of an image, among the {} of the text"
IN_TEXT_REASON = "what {} makes of an image is part of the text, and nothing says which part"
CONNECT_VAE = (
    "If an image is connected there, connect the VAE as well, so that it is a reference latent too; or measure it with "
    "I2AM Effect, with `without` connected to the text without the image"
)
AS_LATENT = {
    **dict.fromkeys(("TextEncodeBooguEdit", "TextEncodeJoyImageEdit", "TextEncodeMageFlowEdit"), CONNECT_VAE),
    "TextEncodeQwenImageEdit": "If an image is connected there, place I2AM Tag Reference after it, with the same clip "
    "and image; or connect the VAE as well, so that it is a reference latent too; or measure it with I2AM Effect, with "
    "`without` connected to the text without the image",
    "TextEncodeHunyuanVideo_ImageToVideo": "If an image is connected there, measure it with I2AM Effect, with "
    "`without` connected to the text without the image",
    "PhotoMakerEncode": "If PhotoMakerEncode is used, measure it with I2AM Effect, with `without` connected to the "
    "same text by CLIP Text Encode",
}
BESIDE_LATENTS = "If an image is connected there, place I2AM Tag Reference after it, with the same clip and image"
LEAST_OF_AN_IMAGE = 150  # tokens: of the 384 x 384 px that TextEncodeQwenImageEditPlus makes of one, 28 x 28 px are one


def given_in_text(run: EndedRun) -> Iterator[GivenReference]:
    """What may be in the text. Nothing of it is certain, but for a token that is alone."""
    for c in run.conditionings:
        tokens = _tokens(c)
        if not tokens or tagged(c) or not run.was_active(c):
            continue
        if "UNetModel" in run.family:
            yield from _in_unet(run, c, tokens)
        if takes_redux(run.model, run.family) and "style tokens" not in run.captured and tokens > SHORTEST_TEXT:
            reason = STYLE_REASON.format(SHORTEST_TEXT)
            yield GivenReference(STYLE.format(tokens), "unknown", reason, TAG, "cross_attn", certain=False)
        yield from _by_language_model(run, tokens)


def _by_language_model(run: EndedRun, tokens: int) -> Iterator[GivenReference]:
    """By a node of ``TEXT_NODES``: as the only reference, or of so many tokens beside reference latents."""
    for name in (run.family | {type(run.model).__name__}) & TEXT_NODES.keys():
        node = TEXT_NODES[name]
        what, reason = IN_TEXT.format(tokens), IN_TEXT_REASON.format(node)
        may_be = not run.captured and (node != "PhotoMakerEncode" or tokens % CLIP_TEXT == 0)
        beside = node == "TextEncodeQwenImageEdit" and run.captured == {"reference latents"}
        if may_be or (beside and tokens >= LEAST_OF_AN_IMAGE):
            advice = AS_LATENT[node] if may_be else BESIDE_LATENTS
            yield GivenReference(what, "unknown", reason, advice, "cross_attn", certain=False)


def _in_unet(run: EndedRun, c: Conditioning, tokens: int) -> Iterator[GivenReference]:
    if tokens == 1 and c["cross_attn"].any():  # the negative one of these models is all 0
        yield GivenReference(LONE, "elsewhere", LONE_REASON, run.measure, "cross_attn")
    elif tokens > CLIP_TEXT and tokens % CLIP_TEXT:
        what = APPENDED.format(tokens)
        yield GivenReference(what, "unknown", APPENDED_REASON, TAG_APPENDED, "cross_attn", certain=False)


def _tokens(c: Conditioning) -> int:
    context = c.get("cross_attn")
    return 0 if context is None else int(context.shape[1])
