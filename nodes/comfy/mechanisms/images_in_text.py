"""Images that a language model has read, as tokens inside the text of joint attention: Qwen-Image-Edit and its kin.

I2AM Tag Reference proves where they are (``images_in_text.py`` beside this folder), and tags them.
"""

from ....i2am_core.attribution import Reference
from ..located import CallSite, Chunk, Given, Located, ModelCall, Skip
from ..tags import read_by_the_words, tagged
from .base import Documented, Mechanism
from .style_tokens import located_in_text


class ImagesInText(Mechanism):
    name = "images in the text"
    priority = 65
    documented = (
        Documented(
            users="Qwen-Image-Edit, LongCat-Image-Edit: `TextEncodeQwenImageEdit`, `TextEncodeQwenImageEditPlus`, with"
            " *I2AM Tag Reference* behind, given the same clip and images",
            captured="joint attention of the picture to the tokens that the language model makes of each image; the"
            " same image as a reference latent is another reference",
            spatial="each on its own grid, of 28 px of the image that the language model gets",
            certainty="exact; where they are is proved by encoding the images again",
            limits="these tokens are mixed already: the language model has read the images before one, and the words"
            " behind have read it, what they hold of it is counted as text. Of images that a"
            " pack's own node encodes it cannot be proved where they are",
        ),
    )

    def may_be_read(self, role: str, call: ModelCall) -> bool:
        return "UNetModel" not in call.family

    def given(self, run: Given) -> list[Reference]:
        return [Reference.of(group) for c in run.conditionings for group in tagged(c, by_language_model=True)]

    def is_in_use(self, chunk: Chunk, call: ModelCall) -> bool:
        if chunk.conditioning.get("cross_attn") is None or "UNetModel" in call.family:
            return False
        return bool(tagged(chunk.conditioning, by_language_model=True))

    def locate(self, site: CallSite, chunk: Chunk, call: ModelCall) -> Located | Skip:
        groups = tagged(chunk.conditioning, by_language_model=True)
        return located_in_text(site, chunk, call, groups, read_by_the_words(chunk.conditioning))
