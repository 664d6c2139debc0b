"""Z-Image Omni at the smallest size: reference latents, a text for each, and SigLIP's tokens, all padded to 32."""

import comfy.clip_vision
import node_helpers
import tiny_graphs
import tiny_models
from tiny_graphs import Graph, Sizes
from tiny_models import TEXT_WIDTH

SIGLIP_WIDTH = 10
SIZES: Sizes = ((4, 8), (6, 4))  # whole tokens: the model does not pad them
SEEN: Sizes = ((3, 5), (2, 4))  # SigLIP's patches of each image: of 16 px
CONTEXTS = (3, 4, 35)  # tokens of the texts: of the two references, and what is left over


def z_image_omni(
    text: int = 1, reference: int = 2, sizes: Sizes = SIZES, seen: Sizes = SEEN, contexts: tuple[int, ...] = CONTEXTS,
    siglip: bool = True, **shape: object,
) -> Graph:  # fmt: skip
    """What TextEncodeZImageOmni gives: ``texts|siglip|R...|I``; with ``siglip`` the model has the layers for it."""
    model = tiny_models.z_image(siglip_feat_dim=SIGLIP_WIDTH if siglip else None)
    graph = tiny_graphs.with_attention_mask(tiny_graphs._image(model, text, 16, **shape))
    graph = tiny_graphs.with_references(graph, reference, sizes)
    more = {
        "reference_latents_text_embeds": [tiny_graphs.noise(50 + n, 1, m, TEXT_WIDTH) for n, m in enumerate(contexts)]
    }
    if seen:
        more["clip_vision_outputs"] = [seen_by_siglip(reference + 20 + n, *size) for n, size in enumerate(seen)]
    graph.positive, graph.negative = (
        node_helpers.conditioning_set_values(c, more) for c in (graph.positive, graph.negative)
    )
    return graph


def seen_by_siglip(seed: int, height: int, width: int) -> comfy.clip_vision.Output:
    """What CLIPVisionEncode gives of an image of so many patches (comfy/clip_vision.py)."""
    output = tiny_graphs.vision(seed, height * width, SIGLIP_WIDTH)
    output.image_sizes = [(3, 16 * height, 16 * width)]
    return output
