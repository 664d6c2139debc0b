"""Tokens of an image among those of the text: nothing in a conditioning says that they are there, so it is offered.

``StyleModelApply`` (nodes.py) appends tokens to a text of any length. Encoders of the text that are language models
with eyes take an image and give text.
"""

from collections.abc import Iterator

from ...i2am_core.given import GivenReference
from .given_run import Conditioning, GivenRun
from .mechanisms.style_tokens import SHORTEST_TEXT
from .tags import tagged

STYLE = "tokens of a style model (Flux Redux), among the {} of the text"
STYLE_REASON = "a prompt that is not long has {}: there is a longer one, or a style model has added its tokens"
TAG = "If Apply Style Model is used, place I2AM Tag Reference after it"
TEXT_NODES = {  # class of the denoiser -> the node whose image may be in its text
    "QwenImageTransformer2DModel": "TextEncodeQwenImageEdit",
    "HunyuanVideo": "TextEncodeHunyuanVideo_ImageToVideo",
}
IN_TEXT = "tokens of an image, among the {} of the text"
IN_TEXT_REASON = "what the language model makes of an image of {} is part of the text, and nothing says which part"
AS_LATENT = {
    "TextEncodeQwenImageEdit": "If an image is connected there, connect the VAE as well, so that it is a reference "
    "latent too; or measure it with I2AM Effect, with `without` connected to the text without the image",
    "TextEncodeHunyuanVideo_ImageToVideo": "If an image is connected there, measure it with I2AM Effect, with "
    "`without` connected to the text without the image",
}


def given_in_text(run: GivenRun) -> Iterator[GivenReference]:
    """What may be in the text. Nothing of it is certain."""
    family = {kind.__name__ for kind in type(run.model.diffusion_model).__mro__}
    for c in run.conditionings:
        tokens = _tokens(c)
        if not tokens or tagged(c):
            continue
        by_style = "Flux" in family and type(run.model).__name__ != "Flux2" and "style tokens" not in run.captured
        if by_style and tokens > SHORTEST_TEXT:
            reason = STYLE_REASON.format(SHORTEST_TEXT)
            yield GivenReference(STYLE.format(tokens), "unknown", reason, TAG, "cross_attn", certain=False)
        for name in family & TEXT_NODES.keys() if not run.captured else ():
            reason, advice = IN_TEXT_REASON.format(TEXT_NODES[name]), AS_LATENT[TEXT_NODES[name]]
            yield GivenReference(IN_TEXT.format(tokens), "unknown", reason, advice, "cross_attn", certain=False)


def _tokens(c: Conditioning) -> int:
    context = c.get("cross_attn")
    return 0 if context is None else int(context.shape[1])
