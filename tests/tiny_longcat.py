"""LongCat-Image-Edit at the smallest size: Flux, with the language model of Qwen-Image for its text.

Where this core has no LongCat-Image, a stand-in: its class in newer cores changes no more than the places of tokens.
"""

from typing import Any

import comfy.model_base
import comfy.supported_models
import comfy_extras.nodes_qwen as nodes_qwen
import tiny_graphs
import tiny_models
import tiny_qwen_images
from comfy.ldm.flux.model import FluxParams
from comfy.model_patcher import ModelPatcher
from tiny_graphs import TWO, Graph, Sizes
from tiny_models import FLUX

OF_LONGCAT = {"image_model": "flux", "guidance_embed": False, "vec_in_dim": None, "txt_ids_dims": [1, 2]}


def longcat(**config: Any) -> ModelPatcher:
    """``T|I|R...`` in 2 double and 2 single blocks, without a pooled text (``LongCatImage``, comfy/model_base.py)."""
    family = getattr(comfy.supported_models, "LongCatImage", _standin())
    return tiny_models.build(tiny_models.known_parameters(FluxParams, FLUX | OF_LONGCAT | config), family)


def _standin() -> type:
    class LongCatImage(comfy.model_base.Flux):
        def encode_adm(self, **kwargs: Any) -> None:
            return None

    class Family(comfy.supported_models.Flux):
        def get_model(self, state_dict: Any, prefix: str = "", device: Any = None) -> LongCatImage:
            return LongCatImage(self, device=device)

    return Family


def longcat_edit(text: int = 1, reference: int = 2, sizes: Sizes = TWO, negative: bool = True, **shape: Any) -> Graph:
    """ReferenceLatent, and a text of random tokens."""
    graph = tiny_graphs._image(longcat(), text, 16, **shape)
    return tiny_graphs.with_references(graph, reference, sizes, negative)


def longcat_clip() -> Any:
    """Its text encoder, which pads the prompt to 512 tokens (comfy/text_encoders/longcat_image.py)."""
    import comfy.text_encoders.longcat_image as longcat_image

    return tiny_qwen_images.qwen_clip(longcat_image.LongCatImageTEModel, longcat_image.LongCatImageTokenizer)


def longcat_by_clip(clip: Any, prompt: str = "a cat", reference: int = 2) -> Graph:
    """TextEncodeQwenImageEdit, and a ReferenceLatent of the same image."""
    graph = tiny_graphs._image(longcat(), 1, 16)
    image = tiny_qwen_images.images(reference)[0]
    graph.positive = tiny_graphs.run(nodes_qwen.TextEncodeQwenImageEdit, clip, prompt, None, image)[0]
    graph = tiny_graphs.with_references(graph, reference, ((4, 8),), negative=False)
    graph.references = [image]
    graph.text_tokens = graph.positive[0][0].shape[1]
    return graph


def longcat_long_text(tokens: int) -> Graph:
    """Without a reference, and with so many tokens of text."""
    graph = tiny_graphs._image(longcat(), 1, 16)
    graph.positive[0][0] = tiny_graphs.noise(1, 1, tokens, tiny_models.TEXT_WIDTH)
    return graph
